"""The weights that ship: what they are, what they find, and that flags and exports leave the answer alone."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch

from benchmarks.anatomy import score_mni152, score_scans
from benchmarks.flags import compare_forms
from bundle.segmenter import Segmenter
from networks import TransformerUNet
from tests.conftest import ROOT

MODEL = ROOT / "models/model.pt"
EAGER = {"device": "cpu", "engine": "torch", "precision": "float32"}


@pytest.fixture(autouse=True)
def _from_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def prepared(sample, tmp_path_factory):
    """The preprocessed sample and the segmenter that made it."""
    segmenter = Segmenter(ROOT / "configs/inference.json", bundle_root=str(ROOT), **EAGER)
    return segmenter, segmenter.preprocessing({"image": str(sample)})


def test_manifest_describes_the_file():
    manifest = json.loads((ROOT / "models/manifest.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(MODEL.read_bytes()).hexdigest()
    assert manifest["bytes"] == MODEL.stat().st_size < 25e6
    assert {"data", "steps", "date", "versions", "scores"} <= manifest.keys()
    assert json.loads((ROOT / "configs/inference.json").read_text())["pixdim"] == [manifest["pixdim"]] * 3


def test_weights_are_a_plain_state_dict_that_loads_strictly():
    state = torch.load(MODEL, weights_only=True)
    assert all(value.dtype == torch.float32 for value in state.values())
    TransformerUNet().load_state_dict(state, strict=True)


@pytest.mark.slow
def test_flags_leave_logits_and_labels_alone(sample):
    forms = compare_forms(Segmenter(**EAGER), sample, MODEL)
    assert len({(form.use_combined_linear, form.use_flash_attention) for form in forms}) == 4
    for form in forms:
        assert form.logit_difference < 1e-4
        assert form.equal_labels >= 0.9999


@pytest.mark.slow
def test_torchscript_export_gives_the_eager_logits(prepared, run_module, tmp_path):
    archive = tmp_path / "model.ts"
    done = run_module(
        "monai.bundle", "ckpt_export", "--config_file", "configs/inference.json", "--ckpt_file", MODEL,
        "--filepath", archive,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    segmenter, data = prepared
    loaded = torch.jit.load(str(archive))
    image = data["image"].as_tensor()[None]
    for size in ((96, 112, 96), (72, 81, 100)):
        window = image[:, :, 10 : 10 + size[0], 10 : 10 + size[1], 5 : 5 + size[2]]
        with torch.inference_mode():
            assert (loaded(window) - segmenter.network(window)).abs().max() < 1e-4


@pytest.mark.slow
def test_grey_and_white_matter_of_the_mni152(tmp_path):
    scores = score_mni152(Segmenter(output_dir=str(tmp_path)), tmp_path)
    assert scores["grey"] >= 0.80
    assert scores["white"] >= 0.85


@pytest.mark.slow
def test_structures_of_real_scans(validation_dir, tmp_path):
    scores = score_scans(Segmenter(output_dir=str(tmp_path)), str(validation_dir))
    assert len(scores) == 31
    assert np.mean([value for row in scores.values() for value in row.values()]) >= 0.72
