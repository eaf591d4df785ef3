"""How the code is kept: short files and functions, one reader, one writer, one family of errors, one of everything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FOLDERS = ("networks", "bundle", "scripts", "benchmarks", "examples", "tests")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
SHIPPED = [path for path in FILES if path.relative_to(ROOT).parts[0] in ("networks", "bundle", "scripts")]
MOST_LINES, LONGEST_FUNCTION = 300, 60

# What only the named files may do: a second place would be a second way.
ONE_PLACE = {
    "rename or make temporary files": (
        r"os\.(replace|rename)\(|\.rename\(|tempfile\.(NamedTemporaryFile|mkstemp)|prefix=\"\.",
        {"bundle/io/whole.py"},
    ),
    "refuse to replace a file": (r"exists already", {"bundle/errors.py"}),
    "read volumes": (
        r"nib\.load\(|nibabel\.load\(|gzip\.open\(|get_fdata|\bdataobj\b",
        {"bundle/io/nifti.py", "bundle/io/memory.py", "scripts/sample_volume.py"},
    ),
    "expand gzip data": (r"zlib\.decompress|gzip\.decompress", {"bundle/io/stream.py", "bundle/io/preflight.py"}),
    "take scaling from a header": (r"get_slope_inter", {"bundle/io/inspect.py"}),
    "ask for versions of packages": (r"importlib\.metadata", {"bundle/provenance.py"}),
    "hash files": (r"def sha256\(|sha256\([^)]*read_bytes", {"bundle/provenance.py"}),
    "load state dicts": (r"torch\.load\(", {"bundle/io/weights.py"}),
    "unwrap errors": (r"__cause__|__context__", {"bundle/errors.py"}),
    "show warnings": (r"showwarning", {"scripts/command.py"}),
    "hook exceptions": (r"excepthook", {"bundle/errors.py"}),
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield name and length of each function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
            yield node.name, node.end_lineno - node.lineno + 1


def test_files_are_short():
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert len(lengths) > 150
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_functions_fit_on_a_screen():
    found = {(name_of(path), name): lines for path in FILES for name, lines in functions(path)}
    assert len(found) > 1000
    assert {name: lines for name, lines in found.items() if lines > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("what", ONE_PLACE)
def test_one_place_does_it(what):
    pattern, places = ONE_PLACE[what]
    found = {name_of(path) for path in SHIPPED if re.search(pattern, path.read_text(encoding="utf-8"))}
    assert found <= places
    assert found  # else the pattern has gone stale


def test_networks_know_neither_files_nor_configs():
    for path in (ROOT / "networks").glob("*.py"):
        assert not re.search(r"\bopen\(|pathlib|monai\.bundle|nibabel", path.read_text(encoding="utf-8")), path


def test_no_code_that_runs_what_it_reads():
    for path in SHIPPED:
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"\bpickle\.load|weights_only=False|(?<![.\w])(eval|exec)\(", source), path
        assert not re.search(r"os\.system|shell=True", source), path


def test_configs_keep_lists_of_numbers_on_one_line():
    for path in (ROOT / "configs").glob("*.json"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if re.fullmatch(r"\s*-?[\d.]+,?", line)], path
