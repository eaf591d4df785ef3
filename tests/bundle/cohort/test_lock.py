"""One run at a time on an output folder; the second is told who holds it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from multiprocessing import get_context

import pytest

from bundle.cohort.lock import output_lock
from bundle.errors import CohortError


@contextlib.contextmanager
def held_elsewhere(folder, parts=()):
    """Let another process hold a folder; yields the process."""
    context = get_context("fork")
    ready = context.Event()

    def hold():
        with output_lock(folder, parts):
            ready.set()
            time.sleep(600)

    process = context.Process(target=hold)
    process.start()
    assert ready.wait(30)
    try:
        yield process
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()


def free(folder, parts=()):
    try:
        with output_lock(folder, parts):
            return True
    except CohortError:
        return False


def test_second_run_is_told_who_holds_it(tmp_path):
    with held_elsewhere(tmp_path) as process, pytest.raises(CohortError, match=rf"process {process.pid} on \S+ since"):
        output_lock(tmp_path).__enter__()


def test_lock_goes_with_a_killed_process(tmp_path):
    with held_elsewhere(tmp_path):
        assert not free(tmp_path)
    assert free(tmp_path)


def test_parts_exclude_the_whole_and_themselves_alone(tmp_path):
    with held_elsewhere(tmp_path, ["shard_1_of_2"]):
        assert not free(tmp_path)
        assert not free(tmp_path, ["shard_1_of_2"])
        assert free(tmp_path, ["shard_2_of_2"])
    with held_elsewhere(tmp_path):
        assert not free(tmp_path, ["shard_1_of_2"])
