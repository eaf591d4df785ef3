"""scripts.segment on a folder of odd names and odd outputs: one process, whose output cannot encode most of them."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from jsonschema import validate

from bundle.inference.segmenter import Segmenter
from tests.conftest import ROOT

NAMES = ("$(x).nii.gz", "@y.nii.gz", "%z#1::a.nii.gz", os.fsdecode(b"odd\xff.nii.gz"), "\u00e4 \u4e2d\n2.nii.gz")
RUN = """
import sys
sys.stdout.reconfigure(encoding="ascii", errors="strict")  # as PYTHONIOENCODING does, or a locale
sys.stderr.reconfigure(encoding="ascii")
from scripts.segment import main
sys.exit(main())
"""
LONG = "n" * 248 + ".nii"


@pytest.fixture(scope="module")
def run(host, tiny_scan, tiny_config, tmp_path_factory):
    """One run, from a folder of its own, into ``$out`` there."""
    folder = tmp_path_factory.mktemp("odd")
    scans, out = folder / "in", folder / "$out"
    (scans / "sub").mkdir(parents=True)
    for name in (*NAMES, "~tilde.nii.gz", "linked.nii.gz", "taken.nii.gz", "ours.nii.gz"):
        shutil.copy(tiny_scan, scans / name)
    shutil.copy(tiny_scan, scans / "sub" / "@y.nii.gz")
    (scans / LONG).write_bytes(b"")
    (scans / "broken.nii.gz").symlink_to("nowhere")
    (scans / "notes.txt").touch()
    (out / "linked").mkdir(parents=True)
    (out / "linked" / "linked_seg.nii.gz").symlink_to(folder / "mine")
    (folder / "mine").write_text("mine")
    (out / "taken" / "taken_qc.png").mkdir(parents=True)
    (out / "ours").symlink_to(scans)
    inputs = ["in", "in/sub/@y.nii.gz", "~home.nii.gz"]
    shutil.copy(tiny_scan, folder / "~home.nii.gz")
    options = ("--output-dir", "$out", "--config", tiny_config, "--device", "cpu")
    return folder, host.run("-c", RUN, *inputs, *options, folder=folder)


def test_names_that_monai_would_evaluate_are_names(run):
    folder, done = run
    stems = {name.removesuffix(".nii.gz") for name in (*NAMES, "~tilde", "~home")}
    made = {path.parent.name for path in folder.glob("$out/*/*_seg.nii.gz") if not path.is_symlink()}
    assert made == stems, done.stderr
    for stem in stems:
        assert len(list((folder / "$out" / stem).iterdir())) == 5
    assert sorted(path.name for path in folder.iterdir()) == ["$out", "in", "mine", "~home.nii.gz"]


def test_print_that_cannot_be_encoded_ends_no_batch(run):
    _, done = run
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stdout.splitlines() if "_seg.nii.gz" in line]
    assert len(lines) == 7
    assert all(line.endswith(" s") for line in lines)
    assert any(r"odd\udcff_seg.nii.gz" in line for line in lines)


def test_outputs_that_are_in_the_way_are_refused_in_a_line_each(run):
    folder, done = run
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert sorted(errors) == sorted(
        [
            "error: in/broken.nii.gz: found a link to nowhere, which is not there; its file is wanted",
            "error: in/sub/@y.nii.gz: found the name @y in in/@y.nii.gz too; one output for each scan is wanted",
            "error: in/linked.nii.gz: $out/linked/linked_seg.nii.gz: is a link; "
            "a plain file, or a free name, is wanted",
            "error: in/taken.nii.gz: $out/taken/taken_qc.png: is a folder; a plain file, or a free name, is wanted",
            "error: in/ours.nii.gz: $out/ours: is a link; a folder, or a free name, is wanted",
            f"error: in/{LONG}: found a name whose output {'n' * 4}_volumes.tsv gets a name of 260 bytes; "
            "at most 255 is wanted",
        ]
    )
    assert (folder / "mine").read_text() == "mine"


def test_closing_line_counts_what_failed_and_what_was_left_out(run):
    folder, done = run
    left_out = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert left_out == [
        "left out: in/notes.txt: of another format",
        "left out: in/sub: a sub-folder (scripts.segment --recursive walks it)",
    ]
    (record,) = folder.glob("$out/run_*.json")
    assert done.stdout.splitlines()[-1] == f"7 of 13 scans segmented, 2 left out; $out/{record.name}"


def test_record_of_the_run_holds_what_was_printed_and_no_folder(run):
    folder, _ = run
    (path,) = folder.glob("$out/run_*.json")
    record = json.loads(path.read_text())
    validate(record, json.loads((ROOT / "configs/run.schema.json").read_text()))
    assert record["inputs"] == ["in", "@y.nii.gz", "~home.nii.gz"]
    assert sorted(entry["name"] for entry in record["segmented"]) == sorted((*NAMES, "~tilde.nii.gz", "~home.nii.gz"))
    assert {entry["result"] for entry in record["segmented"]} == {
        path.name for path in (folder / "$out").iterdir() if len(list(path.glob("*_record.json"))) == 1
    }
    assert record["left_out"] == [
        {"name": "notes.txt", "reason": "of another format"},
        {"name": "sub", "reason": "a sub-folder (scripts.segment --recursive walks it)"},
    ]
    failed = {entry["name"]: (entry["code"], entry["reason"]) for entry in record["failed"]}
    assert len(failed) == len(record["failed"]) == 6
    assert failed["broken.nii.gz"] == (
        "missing", "broken.nii.gz: found a link to nowhere, which is not there; its file is wanted",
    )  # fmt: skip
    assert failed["taken.nii.gz"] == (
        "exists", "taken/taken_qc.png: is a folder; a plain file, or a free name, is wanted",
    )  # fmt: skip
    assert failed["@y.nii.gz"] == (
        "pairs", "@y.nii.gz: found the name @y in @y.nii.gz too; one output for each scan is wanted",
    )  # fmt: skip
    assert str(folder) not in path.read_text()


def test_nothing_is_loaded_where_no_scan_can_be_done(run_main, tmp_path, monkeypatch):
    monkeypatch.setattr("bundle.inference.segmenter.Segmenter.__init__", lambda *_, **__: 1 / 0)
    (tmp_path / "notes.txt").touch()
    done = run_main("scripts.segment", tmp_path, "--output-dir", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"left out: {tmp_path}/notes.txt: of another format",
        f"error: {tmp_path}: found no scan; at least one .nii or .nii.gz file is wanted",
    ]
    (record,) = (tmp_path / "out").iterdir()
    assert done.stdout == f"0 of 1 scans segmented, 1 left out; {record}\n"


@pytest.mark.parametrize("value", ["$1 / 0", "@nothing", "%nothing"])
@pytest.mark.parametrize("option", ["--device", "--checkpoint", "--output-dir"])
def test_option_is_never_evaluated(run_main, tiny_scan, tmp_path, monkeypatch, option, value):
    monkeypatch.setattr("bundle.inference.segmenter.Segmenter.read", lambda *_: 1 / 0)
    given = {"--output-dir": str(tmp_path), "--engine": "torch", "--device": "cpu", option: value}
    done = run_main("scripts.segment", tiny_scan, *(part for pair in given.items() for part in pair))
    wanted = {
        "--device": "evice",
        "--checkpoint": f"error: {value}: not found; a checkpoint is wanted",
        "--output-dir": "ZeroDivisionError",
    }
    assert done.returncode == 1
    assert wanted[option] in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_overrides_of_programmers_stay_expressions(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    segmenter = Segmenter(
        output_dir=str(tmp_path / "$out"),
        device="$torch.device('cpu')",
        engine="torch",
        label_table="configs/labels.tsv",
    )
    assert segmenter.device.type == "cpu"
    assert segmenter.output_dir == tmp_path / "$out"
