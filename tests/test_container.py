"""The recipe of the container: what can be known of it without a registry. The image itself is not built here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch

import pytest

from tests.bundle.bids.made import BROKEN, place, write_bids_set
from tests.bundle.cohort.made import options
from tests.conftest import ROOT


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions in order, each with its arguments in one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def all_of(name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == name]


def copied() -> list[str]:
    """Return the files in git that the Dockerfile copies."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no git here")
    sources = [source for arguments in all_of("COPY") for source in arguments.split()[:-1]]
    files = {
        source: [name for name in done.stdout.splitlines() if name == source or name.startswith(f"{source}/")]
        for source in sources
    }
    assert all(files.values()), files
    return [name for names in files.values() for name in names]


def test_base_is_pinned_and_the_user_is_not_root():
    (base,) = all_of("FROM")
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-slim-bookworm(@sha256:[0-9a-f]{64})?", base)
    (user,) = all_of("USER")
    assert user not in ("root", "0", "0:0")
    order = [instruction for instruction, _ in instructions()]
    assert max(order.index("RUN"), len(order) - 1 - order[::-1].index("COPY")) < order.index("USER")


def test_packages_are_those_of_the_constraints_and_torch_comes_without_cuda():
    installs = [part for line in all_of("RUN") for part in line.split("&&") if "pip install" in part]
    torch, rest = installs
    assert "--index-url https://download.pytorch.org/whl/cpu " in torch
    assert "grep '^torch==' constraints.txt" in torch
    assert {"-r requirements.txt", "-r requirements-cohort.txt", "-c constraints.txt"} <= set(
        re.findall(r"-[rc] \S+", rest)
    )
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    named = [word for word in rest.split("install")[1].split() if re.fullmatch(r"[a-z][a-z-]+", word)]
    assert named == ["bids-validator-deno"]
    assert {"torch", *named} <= pinned
    hosts = set(re.findall(r"https?://([^/\s\"]+)", (ROOT / "Dockerfile").read_text()))
    assert hosts == {"download.pytorch.org"}


def test_context_is_what_is_copied_and_no_more():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    sources = {source for arguments in all_of("COPY") for source in arguments.split()[:-1]}
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == sources
    again = [line for line in lines[1:] if not line.startswith("!")]
    kept = [name for name in copied() if not any(fnmatch(name, pattern.replace("**/", "*")) for pattern in again)]
    assert kept == copied()


def test_entry_point_is_the_bids_app_and_runs_on_the_copied_files_alone(tmp_path):
    pytest.importorskip("ancpbids")
    app, work = tmp_path / "app", tmp_path / "work"
    work.mkdir()
    for name in copied():
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, app / name)
    names = write_bids_set(tmp_path / "set")
    (entry,) = all_of("ENTRYPOINT")
    python, *module = json.loads(entry)
    assert (python, module) == ("python", ["-m", "scripts.bids_app"])
    environment = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    given = dict(pair.split("=", 1) for line in all_of("ENV") for pair in line.split())
    assert given["PYTHONPATH"] == all_of("WORKDIR")[0] == "/opt/bundle"
    environment |= {"PYTHONPATH": str(app), "HOME": str(work), "PYTHONDONTWRITEBYTECODE": "1"}
    arguments = [tmp_path / "set", tmp_path / "out", "participant", "--participant-label", "01", "--workers", "0"]
    command = [sys.executable, *module, *map(str, arguments), "--skip-bids-validation", *options(tmp_path)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert BROKEN not in names[:2]
    assert (tmp_path / "out" / place(names[0].replace("_T1w", "_desc-aseg_dseg"))).is_file()
