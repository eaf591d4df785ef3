"""A run asks no host and writes nothing but results and the cache."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

REFUSED = """
import os, socket

def refuse(name):
    def call(*arguments, **options):
        with open(os.environ["TRIED"], "a") as file:
            print(name, arguments[-1:], file=file)
        raise OSError("no network here")
    return call

for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "create_connection"):
    setattr(socket, name, refuse(name))

class Socket(socket.socket):
    connect, connect_ex, sendto = refuse("connect"), refuse("connect_ex"), refuse("sendto")

socket.socket = Socket
"""
"""A ``sitecustomize`` that refuses every connection and look-up of a name, and writes down that it was tried."""


@pytest.fixture
def alone(tmp_path):
    """An environment without network, with a home, a cache and a place for temporary files of its own."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(REFUSED)
    folders = {name: tmp_path / name for name in ("home", "cache", "temporary", "runtime", "results")}
    for folder in folders.values():
        folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "CI", "MPL"))}
    return folders, kept | {
        "HOME": str(folders["home"]), "XDG_CACHE_HOME": str(folders["cache"]), "TMPDIR": str(folders["temporary"]),
        "XDG_RUNTIME_DIR": str(folders["runtime"]), "TRIED": str(tmp_path / "tried"),
        "PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def state(folder: Path) -> dict[str, int]:
    """Return when each file of the bundle was last written; other tests write what Python and tools cache."""
    written: dict[str, int] = {}
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part in ("__pycache__", "output") for part in parts):
            written[str(path)] = path.stat().st_mtime_ns
    return written


@pytest.mark.slow
def test_no_host_is_asked_and_nothing_is_written_outside_results_and_cache(alone, tiny_scan, tiny_config):
    folders, environment = alone
    before = state(ROOT)
    segment = ["scripts.segment", tiny_scan, "--config", tiny_config, "--output-dir", folders["results"] / "segment"]
    demo = ["monai.bundle", "run", "--config_file", "configs/inference.json", "--datalist", [str(tiny_scan)]]
    demo += ["--output_dir", folders["results"] / "demo", "--overwrite", "True", "--pixdim", [6.0] * 3]
    settings = {"MPLCONFIGDIR": str(folders["cache"] / "matplotlib")}  # as the Makefile's demo has it
    for command, more in ((segment, {}), (demo, settings)):
        done = subprocess.run(
            [sys.executable, "-m", *map(str, command), "--engine", "openvino"],
            cwd=ROOT, env=environment | more, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert not Path(environment["TRIED"]).exists(), Path(environment["TRIED"]).read_text()
    assert {name: files(folders[name]) for name in ("home", "temporary", "runtime")} == {
        "home": [], "temporary": [], "runtime": [],
    }  # fmt: skip
    assert {name.split("/")[0] for name in files(folders["cache"])} == {
        "brain_mri_transformer_segmentation", "matplotlib",
    }  # fmt: skip
    assert len(files(folders["results"])) == 2 * (2 + 5)
    assert state(ROOT) == before


def test_openvino_is_imported_in_one_place():
    """Elsewhere only what comes after ``load_openvino`` in the same function, or is for the types alone."""
    for folder in ("networks", "bundle", "scripts", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if path == ROOT / "bundle" / "privacy.py":
                continue
            for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(function, ast.FunctionDef):
                    continue
                imports = [node for node in ast.walk(function) if isinstance(node, (ast.Import, ast.ImportFrom))]
                names = [getattr(node, "module", None) or node.names[0].name for node in imports]
                if any(name.split(".")[0] == "openvino" for name in names):
                    assert "load_openvino()" in ast.unparse(function), f"{path}: {function.name}"


def test_openvino_does_without_its_telemetry():
    program = (
        "import sys\nfrom bundle.privacy import load_openvino\nload_openvino()\n"
        "from openvino.tools.ovc import telemetry_utils\nprint(telemetry_utils.tm.__name__)\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "openvino.tools.ovc.telemetry_stub\n"
