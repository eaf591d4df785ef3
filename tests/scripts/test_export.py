"""scripts.export on the weights that ship."""

from __future__ import annotations

import json

import pytest
import torch

from tests.conftest import ROOT


@pytest.mark.slow
def test_one_command_writes_forms_that_segment_alike(run_module, sample, small_scan, tmp_path):
    done = run_module(
        "scripts.export", "--forms", "torchscript", "openvino", "--scans", sample, "--output-dir", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["torchscript", "openvino"]
    for name in ("model.ts", "model.xml"):
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert [row["image"] for row in record["parity"]] == [sample.name, f"two crops of {sample.name}"]
        assert all(row["logit_difference"] <= 1e-3 and row["equal_labels"] >= 0.9999 for row in record["parity"])
        assert len(record["codes"]) == record["output"]["shape"][1] == 33

    images = []
    for checkpoint in (ROOT / "models/model.pt", tmp_path / "model.xml", tmp_path / "model.ts"):
        out = tmp_path / checkpoint.name.replace(".", "_")
        done = run_module(
            "scripts.segment", small_scan, "--output-dir", out, "--checkpoint", checkpoint, "--precision", "float32"
        )
        assert done.returncode == 0, done.stderr
        images.append((out / "small" / "small_seg.nii.gz").read_bytes())
    assert images[0] == images[1], "the exported IR is the one that the checkpoint is converted to"
    assert len(images[2]) > 0

    again = run_module("scripts.export", "--forms", "openvino", "--scans", small_scan, "--output-dir", tmp_path)
    assert again.returncode == 1
    assert "exists already; --overwrite replaces it" in again.stderr
    assert len(again.stderr.splitlines()) == 1


def test_unusable_checkpoint_is_one_line(run_module, small_scan, tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    for name, message in (("other.pt", "belongs to another network"), ("none.pt", "not found")):
        done = run_module(
            "scripts.export", "--checkpoint", tmp_path / name, "--scans", small_scan, "--output-dir", tmp_path / "out"
        )
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("error: ")
        assert name in done.stderr
        assert message in done.stderr
    assert not (tmp_path / "out").exists()
