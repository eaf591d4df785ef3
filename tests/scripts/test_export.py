"""scripts.export on the weights that ship."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.conftest import ROOT


def voxels(path):
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture(scope="module")
def half_config(tmp_path_factory):
    """An overlay for 2 mm: a whole head of which two crops are different windows."""
    path = tmp_path_factory.mktemp("half") / "half.json"
    path.write_text(json.dumps({"pixdim": [2.0, 2.0, 2.0]}))
    return path


@pytest.mark.slow
def test_one_command_writes_forms_that_segment_alike(
    run_main, sample, small_scan, half_config, coarse_config, tmp_path
):
    configs = ("--config", ROOT / "configs/inference.json", "--config", half_config)
    forms = ("--forms", "torchscript", "openvino", "--output-dir", tmp_path)
    done = run_main("scripts.export", *forms, *configs, "--scans", sample)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: pixdim: 2 x 2 x 2 mm, the model brain is of 1 x 1 x 1 mm\n"
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["torchscript", "openvino"]
    for name in ("model.ts", "model.xml"):
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert [row["image"] for row in record["parity"]] == [sample.name, f"two crops of {sample.name}"]
        assert all(row["logit_difference"] <= 1e-3 and row["equal_labels"] >= 0.9999 for row in record["parity"])
        assert len(record["codes"]) == record["output"]["shape"][1] == 33
        assert record["input"]["voxel_size_mm"] == [2.0, 2.0, 2.0]

    written = []
    for checkpoint in (ROOT / "models/model.pt", tmp_path / "model.xml", tmp_path / "model.ts"):
        out = tmp_path / checkpoint.name.replace(".", "_")
        options = ("--output-dir", out, "--checkpoint", checkpoint, "--config", coarse_config)
        done = run_main("scripts.segment", small_scan, *options)
        assert done.returncode == 0, done.stderr
        written.append(out / "small" / "small_seg.nii.gz")
    assert written[0].read_bytes() == written[1].read_bytes(), "the exported IR is the one of the checkpoint"
    assert (voxels(written[0]) == voxels(written[2])).mean() > 0.9999

    again = run_main("scripts.export", *forms, *configs, "--scans", small_scan)
    assert again.returncode == 1
    lines = [line for line in again.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 2, "one for each form"
    for name, line in zip(("model.ts", "model.xml"), lines, strict=True):
        assert line == f"error: {tmp_path / name}: exists already; a free name, or overwrite, is wanted"


# All forms, the default, are two processes.
@pytest.mark.parametrize(
    ("name", "message", "forms"),
    [
        ("other.pt", "belongs to another network", ("--forms", "torchscript")),
        pytest.param("none.pt", "not found", (), marks=pytest.mark.slow),
    ],
)
def test_unusable_checkpoint_is_one_line(run_main, small_scan, tmp_path, name, message, forms):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    options = ("--checkpoint", tmp_path / name, "--scans", small_scan, "--output-dir", tmp_path / "out", *forms)
    done = run_main("scripts.export", *options)
    assert done.returncode == 1
    assert done.stdout == ""
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert done.stderr.count("\n") <= 2  # no model.json lies beside other.pt, which is said too
    assert name in error
    assert message in error
    assert not (tmp_path / "out").exists()


def test_unusable_scan_is_one_line(run_main, tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(b"no scan")
    options = ("--scans", tmp_path / "scan.nii.gz", "--forms", "torchscript", "--output-dir", tmp_path / "out")
    done = run_main("scripts.export", *options)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'scan.nii.gz'}: ")
    assert not (tmp_path / "out").exists()
