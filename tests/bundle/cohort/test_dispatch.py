"""Scans on Dask's workers: a worker's end costs the scan that it had, and no other."""

from __future__ import annotations

import os
import signal

import pytest

from bundle.cohort.clusters import local_workers
from bundle.cohort.dispatch import OnDask
from bundle.cohort.messages import Case, Settings
from bundle.cohort.plan import WorkerPlan
from bundle.errors import CohortError
from tests.bundle.cohort import stub
from tests.scripts.cohort_processes import wait_for

pytest.importorskip("distributed")
CALLS = (stub.prepare, stub.segment)


@pytest.fixture(scope="module")
def client():
    with local_workers(WorkerPlan(2, 1, None)) as client:
        yield client


def settings(folder, *config):
    return Settings(config, (), str(folder))


def run(client, folder, ids, retries=1, on_outcome=lambda outcome: None):
    """Run scans and return their outcomes by id."""
    runner = OnDask(client, settings(folder), retries, calls=CALLS)
    assert runner.ready().structures == stub.STRUCTURES
    outcomes = {}
    for outcome in runner.run([Case(name, f"/scans/{name}.nii.gz") for name in ids]):
        assert outcome.case.id not in outcomes
        outcomes[outcome.case.id] = outcome
        on_outcome(outcome)
    return outcomes


def test_each_scan_ends_and_faults_cost_that_scan_alone(client, tmp_path):
    sound = [f"scan{number}" for number in range(20)]
    outcomes = run(client, tmp_path, ["bad", "wrong", "kills", *sound])
    assert {name: outcomes[name].result.status for name in sound} == dict.fromkeys(sound, "done")
    assert all(len(stub.attempts(tmp_path, name)) == outcomes[name].attempts == 1 for name in sound)
    ended = {name: (outcomes[name].result.code, outcomes[name].attempts) for name in ("bad", "wrong", "kills")}
    assert ended == {"bad": ("damaged", 2), "wrong": ("format", 1), "kills": ("worker", 2)}
    assert "killed" in outcomes["kills"].result.reason
    for name in ("bad", "kills"):
        assert len(set(stub.attempts(tmp_path, name))) == 2, "another attempt is made in a fresh process"


def test_worker_that_ends_with_what_a_scan_returned_does_not_stop_the_run(client, tmp_path):
    outcomes = run(client, tmp_path, ["ends", "scan"])
    assert outcomes["scan"].result.status == "done"
    assert outcomes["ends"].result.code in (None, "worker")


def test_scan_that_kills_its_worker_is_tried_as_often_as_is_asked(client, tmp_path):
    outcomes = run(client, tmp_path, ["kills"], retries=0)
    assert outcomes["kills"].attempts == len(stub.attempts(tmp_path, "kills")) == 1


def test_worker_killed_from_outside_costs_an_attempt(client, tmp_path):
    killed = []

    def kill_first(outcome):
        if not killed:
            for worker in client.run(os.getpid).values():
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)

    outcomes = run(client, tmp_path, ["scan", *(f"slow{number}" for number in range(4))], on_outcome=kill_first)
    assert {outcome.result.status for outcome in outcomes.values()} == {"done"}
    assert sorted(outcome.attempts for outcome in outcomes.values()) in ([1, 1, 1, 1, 2], [1, 1, 1, 2, 2])


@pytest.mark.slow
def test_worker_that_its_nanny_gave_up_comes_back(client):
    gone = dict(client.cluster.workers)
    client.cluster.sync(gone[0].close)
    wait_for(lambda: client.cluster.workers.get(0) not in (None, gone[0]))
    wait_for(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == 2)
    assert client.cluster.workers[1] is gone[1]


def test_model_that_cannot_be_loaded_ends_the_run_in_its_line(client, tmp_path):
    with (
        pytest.warns(UserWarning, match="gets no scan"),
        pytest.raises(CohortError, match="weights are wanted") as raised,
    ):
        OnDask(client, settings(tmp_path, "prepare_fails"), calls=CALLS).ready()
    assert raised.value.code == "weights"


def test_workers_that_end_while_they_load_end_the_run(client, tmp_path, monkeypatch):
    monkeypatch.setattr("bundle.cohort.dispatch.MOST_ENDS", 1)
    with pytest.raises(CohortError, match=r"ended while they loaded the model|there was none for"):
        OnDask(client, settings(tmp_path, "prepare_dies"), patience=3, calls=CALLS).ready()
