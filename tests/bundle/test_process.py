"""Programs start anew without glibc's cache of small blocks: once, as the same process, and not those that run them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from bundle.process import NO_THREAD_CACHE
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has the cache")

PROGRAM = """
import json, os, sys
from bundle.process import restart_without_thread_cache

print("started", file=sys.stderr)
restart_without_thread_cache()
print(json.dumps([os.getpid(), sys.argv[1:], sys.flags.optimize, os.environ.get("GLIBC_TUNABLES")]))
"""
RUNNER = """
import runpy
print("outer")
runpy.run_module("own_program", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def start(tmp_path):
    """Start Python with a program in its working folder, and return its process and what it printed."""
    (tmp_path / "own_program.py").write_text(PROGRAM, encoding="utf-8")
    usual = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}

    def run(*arguments: str, **more: str) -> tuple[int, str, str]:
        environment = {**usual, "PYTHONPATH": str(ROOT), **more}
        command = [sys.executable, *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return process.pid, out, err

    return run


def test_program_starts_anew_once_as_the_same_process_with_its_own_command_line(start):
    pid, out, err = start("-O", "-m", "own_program", "a b", "-m", "ü")
    assert json.loads(out) == [pid, ["a b", "-m", "ü"], 1, NO_THREAD_CACHE]
    assert err.split() == ["started", "started"]


@pytest.mark.parametrize(
    ("given", "found", "starts"),
    [
        ("glibc.malloc.arena_max=3", f"glibc.malloc.arena_max=3:{NO_THREAD_CACHE}", 2),
        ("glibc.malloc.tcache_count=5", "glibc.malloc.tcache_count=5", 1),
    ],
)
def test_what_the_user_has_set_stays(start, given, found, starts):
    _, out, err = start("-m", "own_program", GLIBC_TUNABLES=given)
    assert json.loads(out)[-1] == found
    assert len(err.split()) == starts


def test_program_that_another_one_runs_does_not_start_that_anew(start):
    _, out, err = start("-c", RUNNER)
    assert out.splitlines()[0] == "outer"
    assert json.loads(out.splitlines()[1])[-1] is None
    assert err.split() == ["started"]


@pytest.mark.parametrize("program", ["segment", "cohort", "bids_app"])
def test_programs_that_segment_start_anew(start, tmp_path, program):
    site = tmp_path / "sitecustomize.py"  # Python imports it at each start
    site.write_text("import os, sys\nos.write(2, b'started\\n')\n", encoding="utf-8")
    _, _, err = start("-m", f"scripts.{program}", "--help", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert err.split() == ["started", "started"]
