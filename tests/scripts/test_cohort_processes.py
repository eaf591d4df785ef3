"""scripts.cohort with processes of its own: what is killed costs no more than it had, and the same command goes on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bundle.cohort.made import options, write_scans
from tests.conftest import ROOT
from tests.scripts.test_cohort import hashes, rows

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow
SCANS = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory, run_main):
    """Scans, and the results of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("processes")
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


def test_killed_workers_cost_an_attempt_and_change_no_result(made, tmp_path):
    process = start(made, tmp_path, "--workers", "2", "--retries", "5")
    for number in (1, 2):
        wait_for(lambda number=number: count(tmp_path) >= number and workers_of(process.pid))
        with contextlib.suppress(ProcessLookupError):
            os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    code, out, err = finished(process)
    assert (code, err) == (0, "")
    assert f"{SCANS} done" in out
    assert hashes(tmp_path) == hashes(made / "out")
    assert json.loads((tmp_path / "cohort_summary.json").read_text())["done"] == SCANS


def test_killed_parent_takes_its_workers_along_and_the_same_command_goes_on(made, tmp_path):
    for number in range(3):
        process = start(made, tmp_path, "--workers", "1")
        wait_for(lambda number=number: count(tmp_path) >= number)
        time.sleep(random.uniform(0, 3))
        workers = workers_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        finished(process)
        wait_for(lambda workers=workers: not any(Path(f"/proc/{worker}").exists() for worker in workers), 60)
    code, _, err = finished(start(made, tmp_path, "--workers", "1"))
    assert (code, err) == (0, "")
    assert hashes(tmp_path) == hashes(made / "out")
    assert set(rows(tmp_path / "cohort.tsv")) == set(rows(made / "out/cohort.tsv"))


@pytest.mark.parametrize(
    ("number", "code", "line"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signal_ends_in_a_line_that_says_how_to_go_on(made, tmp_path, number, code, line):
    process = start(made, tmp_path, "--workers", "1")
    wait_for(lambda: count(tmp_path) >= 1)
    os.killpg(process.pid, number) if number == signal.SIGINT else os.kill(process.pid, number)
    ended, _, err = finished(process)
    assert ended == code
    lines = err.splitlines()
    assert line in lines
    assert any("the same command goes on" in said for said in lines)
    assert len(lines) == 2
    assert count(tmp_path) < SCANS
    assert not list(tmp_path.glob("*/.unfinished-*"))


def test_scheduler_and_workers_started_by_hand_give_the_table_of_a_local_run(made, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DASK_CONFIG": str(ROOT / "configs/dask.yaml")}
    address = f"tcp://127.0.0.1:{random.randrange(20000, 30000)}"
    given = {"cwd": scratch, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    host, port = address[6:].split(":")
    dask = [sys.executable, "-m", "dask"]
    commands = [[*dask, "scheduler", "--host", host, "--port", port, "--no-dashboard"]]
    commands += [[*dask, "worker", address, "--nthreads", "2", "--name", name] for name in ("w1", "w2")]
    running = [subprocess.Popen(command, **given) for command in commands]
    try:
        code, _, err = finished(start(made, tmp_path / "out", "--scheduler", address))
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(60)
    assert (code, err) == (0, "")
    assert hashes(tmp_path / "out") == hashes(made / "out")
    assert table_of(tmp_path / "out") == table_of(made / "out")


def has_slurm() -> bool:
    """Tell whether Slurm runs here; a single node does: slurmctld, slurmd and munged."""
    return shutil.which("sinfo") is not None and subprocess.run(["sinfo"], capture_output=True).returncode == 0


needs_slurm = pytest.mark.skipif(not has_slurm(), reason="no Slurm runs here (Debian: slurmctld, slurmd, munge)")


@needs_slurm
def test_jobs_of_slurm_give_the_table_of_a_local_run(made, tmp_path):
    config = {"jobs": 1, "cores": 1, "processes": 1, "memory": "3GB", "walltime": "00:20:00", "interface": "lo"}
    config |= {"log_directory": str(tmp_path / "logs"), "local_directory": str(tmp_path / "scratch")}
    (tmp_path / "slurm.json").write_text(json.dumps(config))
    more = ("--cluster", "slurm", "--cluster-config", str(tmp_path / "slurm.json"))
    code, _, err = finished(start(made, tmp_path / "out", *more))
    assert (code, err) == (0, "")
    assert hashes(tmp_path / "out") == hashes(made / "out")
    assert table_of(tmp_path / "out") == table_of(made / "out")


@needs_slurm
def test_job_array_of_slurm_gives_the_results_of_a_local_run(made, tmp_path):
    command = [sys.executable, "-m", "scripts.cohort", *arguments(made, tmp_path / "out"), "--workers", "0"]
    script = tmp_path / "array.sh"
    script.write_text(f"#!/bin/sh\ncd {ROOT}\n{shlex.join(command)} --shard $SLURM_ARRAY_TASK_ID/2\n")
    options = ["--wait", "--array=1-2", "--mem=3G", f"--output={tmp_path}/%a.txt"]
    subprocess.run(["sbatch", *options, str(script)], check=True, timeout=300, capture_output=True)
    code, _, err = finished(start(made, tmp_path / "out", "--collect"))
    assert (code, err) == (0, "")
    assert hashes(tmp_path / "out") == hashes(made / "out")
    assert len(list((tmp_path / "out/logs").glob("*_of_2.tsv"))) == 2
