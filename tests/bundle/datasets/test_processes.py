"""The processes of one training prepare one folder at the same time."""

from __future__ import annotations

import multiprocessing

import pytest

from bundle.datasets import prepare_dataset, split_cases
from tests.labelled import write_msd

PROCESSES = 4


def _prepare(folder, output_dir, start, done):
    start.wait()
    try:
        cases = prepare_dataset(folder, output_dir, num_workers=1).cases
        done.put([case.name for case in split_cases(cases, 0, 3, splits_file=output_dir / "splits.json").val])
    except Exception as error:
        done.put(error)


@pytest.mark.parametrize("round_", range(5))
def test_processes_that_start_together_agree(tmp_path, round_):
    write_msd(tmp_path / "data")
    fork = multiprocessing.get_context("fork")
    start, done = fork.Barrier(PROCESSES), fork.Queue()
    given = (tmp_path / "data", tmp_path / "run", start, done)
    processes = [fork.Process(target=_prepare, args=given) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    results = [done.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert results == results[:1] * PROCESSES
    assert len(results[0]) == 2
    files = ["dataset_statistics.json", "splits.json"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == files
