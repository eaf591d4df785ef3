"""scripts.cohort with processes that are killed: they cost no more than they had, and the same command goes on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.scripts.cohort_processes import (
    SCANS,
    count,
    finished,
    make,
    start,
    wait_for,
    workers_of,
)
from tests.scripts.test_cohort import hashes, rows

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory, run_main):
    """Scans, and the results of a run that nothing disturbed."""
    return make(tmp_path_factory.mktemp("processes"), run_main)


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
