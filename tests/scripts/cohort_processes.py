"""``scripts.cohort`` in processes of its own, for tests."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

from tests.bundle.cohort.made import options, write_scans
from tests.conftest import ROOT
from tests.scripts.test_cohort import rows

SCANS = 6


def make(folder: Path, run_main) -> Path:
    """Write scans, and the results of a run that nothing disturbs; return the folder of both."""
    write_scans(folder / "scans", SCANS)
    done = run_main("scripts.cohort", *arguments(folder, folder / "out"), "--workers", "0")
    assert done.returncode == 0
    return folder


def arguments(folder: Path, out: Path) -> list[str]:
    return [str(folder / "scans"), "--output-dir", str(out), *options(folder)]


def start(made: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "scripts.cohort", *arguments(made, out), *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def workers_of(parent: int) -> list[int]:
    """Return the processes of Dask's workers, which Python's spawn has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                command = path.with_name("cmdline").read_bytes()
                found += [int(path.parent.name)] if b"spawn_main" in command else []
    return found


def wait_for(condition, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def table_of(folder: Path) -> dict[str, dict[str, str]]:
    """Return the table without what differs from run to run."""
    changing = ("seconds", "peak_memory_mb", "worker")
    table = rows(folder / "cohort.tsv")
    return {name: {key: row[key] for key in row if key not in changing} for name, row in table.items()}


def count(out: Path) -> int:
    return len(list(out.glob("*/*_record.json")))
