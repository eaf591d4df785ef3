"""How many workers there are, and what is said where there can be none."""

from __future__ import annotations

import sys

import pytest

from bundle.cohort.clusters import batch_cluster, local_workers, read_cluster_config, running_cluster
from bundle.cohort.plan import PEAK_BYTES, WorkerPlan, plan_workers
from bundle.errors import BundleError, CohortError, InputError
from bundle.lean import WITHHELD


@pytest.mark.parametrize(
    ("cores", "memory", "given", "workers", "threads"),
    [(8, None, {}, 8, 1), (8, 3 * PEAK_BYTES, {}, 3, 2), (8, PEAK_BYTES // 2, {}, 1, 8), (8, None, {"wanted": 2}, 2, 4),
     (2, None, {"wanted": 4}, 4, 1), (8, None, {"wanted": 2, "threads": 3}, 2, 3), (4, None, {"wanted": 0}, 0, 4)],
)  # fmt: skip
def test_cores_and_memory_are_shared_out(cores, memory, given, workers, threads):
    plan = plan_workers(cores, memory, **given)
    assert (plan.workers, plan.threads) == (workers, threads)
    assert plan.memory == (None if memory is None else memory // workers)


def loaded():
    """Return what a worker has loaded of MONAI and of what it can do without; psutil is Dask's."""
    import bundle.cohort.worker  # noqa: F401

    return {name for name in ("monai.transforms", *WITHHELD) if name in sys.modules} - {"psutil"}


@pytest.mark.parametrize(
    ("lean", "found"),
    [(True, {"monai.transforms"}), pytest.param(False, {"monai.transforms", "ignite"}, marks=pytest.mark.slow)],
)
def test_workers_load_monai_alone_where_the_shipped_config_runs(lean, found):
    pytest.importorskip("distributed")
    with local_workers(WorkerPlan(1, 1, None), lean) as client:
        (names,) = client.run(loaded).values()
    assert names & {"monai.transforms", "ignite"} == found
    assert not lean or names == found


def test_missing_package_is_a_line_that_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(CohortError, match=r"not installed; 'pip install -r requirements-cohort.txt"):
        local_workers(WorkerPlan(1, 1, None)).__enter__()


def test_scheduler_that_is_not_there_is_a_line(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("bundle.cohort.clusters.CONNECT", 1)
    with pytest.raises(CohortError, match="no scheduler answers"):
        running_cluster("tcp://127.0.0.1:9").__enter__()


@pytest.mark.parametrize(("name", "text"), [("x.json", "{"), ("x.json", "[1]"), ("x.yaml", "a: [")])
def test_config_that_is_none_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError):
        read_cluster_config(tmp_path / name)


def test_config_of_a_cluster_is_json_or_yaml(tmp_path):
    (tmp_path / "x.yaml").write_text("jobs: 3\ncores: 1\n")
    (tmp_path / "x.json").write_text('{"jobs": 3, "cores": 1}')
    assert (
        read_cluster_config(tmp_path / "x.yaml") == read_cluster_config(tmp_path / "x.json") == {"jobs": 3, "cores": 1}
    )


def test_keyword_that_the_batch_system_does_not_know_is_a_line(tmp_path):
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "x.json").write_text('{"cores": 1, "memory": "1GB", "colour": "red"}')
    with pytest.raises(BundleError, match="colour"):
        batch_cluster("slurm", tmp_path / "x.json").__enter__()
