"""The frame of the programs: one line for an error, exit codes, warnings, a traceback only when asked for."""

from __future__ import annotations

import ast
import logging
import re
import signal
import subprocess
import sys
import warnings

import pytest

from bundle import choices
from bundle.errors import GeometryWarning, InputError
from scripts.command import DONE, FAILED, INTERRUPTED, make_parser, run_program
from tests.conftest import ROOT

FRAME = ("__init__", "command", "many", "pages", "scan_options")
PROGRAMS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py") if path.stem not in FRAME)


def options(*arguments: str):
    return make_parser("command", "A program.\n\nMore.").parse_args(arguments)


def wrapped(_: object) -> int:
    try:
        raise InputError("a.nii", "found 2D", "3D is wanted", "shape")
    except InputError as error:
        raise RuntimeError("applying transform <monai object>") from error


@pytest.mark.parametrize(("failed", "code"), [(0, DONE), (1, FAILED), (3, FAILED)])
def test_exit_code_says_whether_anything_failed(failed, code):
    assert run_program(lambda _: failed, options()) == code


def test_error_is_one_line_without_monais_wrapper(capsys):
    assert run_program(wrapped, options()) == FAILED
    assert capsys.readouterr() == ("", "error: a.nii: found 2D; 3D is wanted\n")


def test_error_that_nobody_foresaw_is_one_line_too(capsys):
    assert run_program(lambda _: {}["key"], options()) == FAILED
    assert capsys.readouterr().err == "error: KeyError: 'key' (--debug shows where)\n"


def test_debug_shows_the_traceback(capsys):
    assert run_program(wrapped, options("--debug")) == FAILED
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: a.nii: found 2D; 3D is wanted\n")


def test_interrupt_is_no_traceback(capsys):
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    assert run_program(interrupt, options()) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def warn(_: object) -> int:
    for _ in range(2):
        warnings.warn("a.nii: found\npixdim", GeometryWarning, stacklevel=1)
    warnings.warn("of a library", DeprecationWarning, stacklevel=1)
    logging.getLogger("library").warning("a log line")
    return 0


def test_own_warnings_are_shown_once_and_those_of_libraries_not(capsys):
    assert run_program(warn, options()) == DONE
    assert capsys.readouterr().err == "warning: a.nii: found pixdim\n"


def test_debug_shows_warnings_of_libraries(capsys):
    assert run_program(warn, options("--debug")) == DONE
    assert "warning: of a library" in capsys.readouterr().err


def test_frame_leaves_warnings_logs_and_signals_as_they_were():
    def state():
        handler = signal.getsignal(signal.SIGTERM)
        return warnings.showwarning, list(warnings.filters), logging.root.manager.disable, handler

    before = state()
    run_program(warn, options())
    assert state() == before


HELP = """
import runpy, sys
sys.argv = ["NAME", "--help"]
try:
    runpy.run_module("scripts.NAME", run_name="__main__")
except SystemExit as end:
    print("exit", end.code, "heavy", sorted({"torch", "monai", "numpy"} & set(sys.modules)))
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_loads_nothing_that_takes_long(name):
    program = HELP.replace("NAME", name)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"python -m scripts.{name}" in done.stdout
    assert "--debug" in done.stdout
    assert done.stdout.endswith("exit 0 heavy []\n")


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_have_one_frame(name):
    source = (ROOT / "scripts" / f"{name}.py").read_text(encoding="utf-8")
    assert "run_program(" in source
    assert not re.search(r"showwarning|sys\.excepthook|logging\.disable", source)


def test_lists_of_choices_stand_once():
    lists = [set(value) for value in vars(choices).values() if isinstance(value, tuple)]
    assert len(lists) == 8
    for folder in ("bundle", "scripts", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if path == ROOT / "bundle" / "choices.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
                    values = {item.value for item in node.elts if isinstance(item, ast.Constant)}
                    assert values not in lists, path
