"""scripts.cohort told to end, on a scheduler started by hand, and as jobs: the table is that of a local run."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.scripts.cohort_processes import (
    SCANS,
    arguments,
    count,
    finished,
    make,
    start,
    table_of,
    wait_for,
)
from tests.scripts.test_cohort import hashes

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory, run_main):
    """Scans, and the results of a run that nothing disturbed."""
    return make(tmp_path_factory.mktemp("processes"), run_main)


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
