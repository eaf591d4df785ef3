"""The record of a run over folders: one for each run, names and reasons, no folder."""

from __future__ import annotations

import json

from jsonschema import Draft202012Validator

from bundle.errors import ExistsError, InputError
from bundle.io import list_inputs
from bundle.results import RunRecord
from tests.conftest import ROOT

SCHEMA = json.loads((ROOT / "configs/run.schema.json").read_text())


def test_several_runs_into_one_folder_leave_a_record_each(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").touch()
    listing = list_inputs([tmp_path / "in"])
    record = RunRecord([tmp_path / "in"], tmp_path / "out", listing.scans, listing.left_out)
    paths = [record.write() for _ in range(3)]
    assert len(set(paths)) == 3
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())
    Draft202012Validator.check_schema(SCHEMA)
    for path in paths:
        Draft202012Validator(SCHEMA).validate(json.loads(path.read_text()))


def test_reasons_keep_their_code_and_lose_every_folder(tmp_path):
    ward = tmp_path / "ward 7"
    (ward / "deep").mkdir(parents=True)
    for path in (ward / "a.nii.gz", ward / "deep" / "b.nii.gz"):
        path.touch()
    record = RunRecord([ward], tmp_path / "out", list_inputs([ward], recursive=True).scans, [])
    record.failed(ward / "a.nii.gz", "exists", str(ExistsError(tmp_path / "out" / "a" / "a_seg.nii.gz")))
    record.failed(
        ward / "deep/b.nii.gz", "pairs", str(InputError(ward / "deep/b.nii.gz", f"like {ward}/a.nii.gz", "else"))
    )
    record.failed(ward / "c.nii.gz", None, "division by zero")
    record.segmented(ward / "d.nii.gz")
    content = record.content()
    assert content["failed"] == [
        {"name": "a.nii.gz", "code": "exists",
         "reason": "a/a_seg.nii.gz: exists already; a free name, or overwrite, is wanted"},
        {"name": "b.nii.gz", "code": "pairs", "reason": "b.nii.gz: like a.nii.gz; else"},
        {"name": "c.nii.gz", "code": None, "reason": "division by zero"},
    ]  # fmt: skip
    assert content["segmented"] == [{"name": "d.nii.gz", "result": "d"}]
    assert "ward" not in json.dumps({name: value for name, value in content.items() if name != "inputs"})
