"""cohort.tsv is whole at any time, and in the order of the cohort at the end."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
from multiprocessing import get_context

import pytest

from bundle.cohort.summary import Tally, write_summary
from bundle.cohort.table import CohortTable, measures_of
from bundle.errors import WriteError
from tests.bundle.cohort.made import outcome

MEASURES = measures_of(("Left-A", "Right-A"), ("A",))


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_lines_are_there_as_scans_end_and_in_order_at_last(tmp_path):
    path = tmp_path / "cohort.tsv"
    with CohortTable(path, MEASURES) as table:
        for place, name in ((2, "c"), (0, "a"), (1, "b")):
            table.add(place, outcome(name, None if name == "a" else 100.0))
            assert rows(path)[-1]["id"] == name
        table.finish({1: ["Left-A", "asymmetry_A"]})
    assert [row["id"] for row in rows(path)] == ["a", "b", "c"]
    failed, found, _ = rows(path)
    expected = {"status": "failed", "code": "damaged", "reason": "found a half", "attempts": "2", "Left-A": "n/a"}
    assert expected.items() <= failed.items()
    expected = {"Left-A": "100.0", "outliers": "Left-A;asymmetry_A", "peak_memory_mb": "2", "flags": "small"}
    assert expected.items() <= found.items()


def _fill_limited(path):
    with CohortTable(path, MEASURES) as table:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500,) * 2)
        for number in range(100):
            try:
                table.add(number, outcome(f"scan{number}"))
            except WriteError as error:
                os._exit(0 if "free space is wanted" in str(error) else 1)
    os._exit(2)


def test_disk_that_fills_up_leaves_whole_lines(tmp_path):
    path = tmp_path / "cohort.tsv"
    process = get_context("fork").Process(target=_fill_limited, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert 0 < path.stat().st_size < 500
    lines = path.read_text().split("\n")
    assert lines[-1] == ""
    assert {line.count("\t") for line in lines[:-1]} == {lines[0].count("\t")}


def test_summary_has_counts_outliers_and_what_columns_mean(tmp_path):
    tally, outcomes = Tally(), [outcome(f"scan{n}", 100.0 + n, 0.01 * (n % 3)) for n in range(20)]
    outcomes += [outcome("large", 400.0), outcome("bad", None)]
    with CohortTable(tmp_path / "cohort.tsv", MEASURES) as table:
        for place, one in enumerate(outcomes):
            table.add(place, one)
            tally.add(one)
        write_summary(tmp_path, table, tally, {"engine": "none"})
    summary = json.loads((tmp_path / "cohort_summary.json").read_text())
    counts = {name: summary[name] for name in ("scans", "done", "failed", "flagged", "outlier_scans")}
    assert counts == {"scans": 22, "done": 21, "failed": 1, "flagged": 21, "outlier_scans": 1}
    assert summary["failed_by_code"] == {"damaged": 1}
    assert {row["id"] for row in rows(tmp_path / "cohort_outliers.tsv")} == {"large"}
    assert rows(tmp_path / "cohort.tsv")[20]["outliers"] == "Left-A;Right-A"
    wide = rows(tmp_path / "cohort_participants.tsv")
    assert len(wide) == 21
    described = json.loads((tmp_path / "cohort.json").read_text())
    assert described["Left-A"]["Units"] == "mm^3"
    for path in tmp_path.glob("*.tsv"):
        missing = set(rows(path)[0]) - set(described)
        assert missing == (set() if "outliers" not in path.name else {"measure", "value", "median", "robust_z"})


@pytest.mark.parametrize("name", ["tab\tbed", "line\nbreak", "\udce9"])
def test_odd_names_stay_one_line(tmp_path, name):
    with CohortTable(tmp_path / "cohort.tsv", MEASURES) as table:
        table.add(0, outcome(name))
        table.finish({})
    assert (tmp_path / "cohort.tsv").read_bytes().count(b"\n") == 2
