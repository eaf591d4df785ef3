"""Scans that failed are known from the table of a cohort, else from the records of runs."""

from __future__ import annotations

import json

import pytest

from bundle.errors import InputError
from bundle.results.listed import Listed, read_listed


def run_record(folder, time, segmented=(), failed=()):
    content = {
        "segmented": [{"name": f"{name}.nii.gz", "result": name} for name in segmented],
        "failed": [{"name": f"{name}.nii.gz", "code": "damaged", "reason": "torn"} for name in failed],
    }
    (folder / f"run_{time}.json").write_text(json.dumps(content))


def test_what_a_later_run_segmented_did_not_fail(tmp_path):
    run_record(tmp_path, "20260101T000000Z", ["a"], ["b", "c"])
    run_record(tmp_path, "20260102T000000Z", ["b"], [])
    assert read_listed(tmp_path) == {"c": Listed("", "failed", "torn")}
    assert read_listed(tmp_path)["c"].line == "failed: torn"


def test_a_cohorts_table_is_read_by_the_names_of_its_columns(tmp_path):
    run_record(tmp_path, "20260101T000000Z", [], ["z"])
    (tmp_path / "cohort.tsv").write_text(
        "new\tstatus\tid\treason\tpath\n1\tdone\ta\tn/a\t/d/a.nii\n2\tfailed\tb\ttorn\t/d/b\n"
    )
    assert read_listed(tmp_path) == {"a": Listed("/d/a.nii", "done"), "b": Listed("/d/b", "failed", "torn")}


@pytest.mark.parametrize("name", ["cohort.tsv", "run_1.json"])
def test_what_is_no_such_file_is_named(tmp_path, name):
    (tmp_path / name).write_text("[]")
    with pytest.raises(InputError, match=name):
        read_listed(tmp_path)
