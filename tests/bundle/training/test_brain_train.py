"""configs/brain_train.json and gpu_train.json, run by MONAI on label maps made by code."""

from __future__ import annotations

import copy
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.labels import read_labels
from bundle.model import read_model
from bundle.provenance import sha256
from bundle.synthesis.anatomy import load_label_maps
from bundle.synthesis.warps import write_warps
from bundle.training import attend_by_head, compiled, find_label_maps
from bundle.training.attending import HeadwiseAttend
from networks import TransformerUNet
from tests.bundle.training.tiny_training import NETWORK, column, equal, train, weights
from tests.conftest import ROOT
from tests.phantom import SPACING, brain_codes, write_phantoms

BRAIN, GPU, ANY_CONTRAST = (
    str(ROOT / "configs" / name) for name in ("brain_train.json", "gpu_train.json", "any_contrast.json")
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three whole heads and three brains."""
    root = tmp_path_factory.mktemp("data")
    write_phantoms(root / "heads", 3)
    (root / "brains").mkdir()
    for index in range(3):
        image = nib.Nifti1Image(np.roll(brain_codes(), index, axis=1), np.diag([SPACING] * 3 + [1.0]))
        image.to_filename(root / "brains" / f"b{index}.nii.gz")
    return root


def options(folders, **others):
    given = {"brains_dir": str(folders / "brains"), "held_out": 1, "brains_held_out": 1, "threads": 0}
    return {**given, "init_checkpoint": None, "samples_kept": 2, "sample_uses": 2, **others}


def test_heads_and_brains_train_and_what_is_held_out_validates(folders, tmp_path):
    workflow = train(folders / "heads", tmp_path, BRAIN, **options(folders))
    assert column(tmp_path, "val_mean_dice")
    dataset, held = (workflow.parser.get_parsed_content(name) for name in ("train#dataset", "held_out_samples"))
    names = [{label_map.name for label_map in part.maps + part.brains} for part in (dataset, held)]
    assert [len(part.maps) for part in (dataset, held)] == [2, 1]
    assert [len(part.brains) for part in (dataset, held)] == [2, 1]
    assert names[0].isdisjoint(names[1])
    assert len(names[0] | names[1]) == 6


def test_any_contrast_is_a_model_of_its_own_that_is_not_judged_by_t1(folders, tmp_path):
    workflow = train(folders / "heads", tmp_path, BRAIN, ANY_CONTRAST, **options(folders))
    assert workflow.parser.get_parsed_content("train#dataset#options")["random_contrast"] == 0.7
    model = read_model(tmp_path)
    assert model.flags_left_out == ["contrast_white", "contrast_fluid", "contrast_depth"]
    assert "any contrast" in model.content["description"]
    assert model.content["fingerprint"]["random_contrast"] == 0.7


@pytest.mark.slow
def test_a_training_goes_on_to_the_same_weights(folders, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(folders / "heads", whole, BRAIN, **options(folders))
    shutil.copytree(whole, parts)
    for name in ("checkpoint_2.pt", "model.pt"):  # as after a kill in the second epoch
        (parts / name).unlink()
    shutil.rmtree(parts / "samples")  # they are drawn again
    train(folders / "heads", parts, BRAIN, **options(folders))
    assert equal(weights(whole / "model.pt"), weights(parts / "model.pt"))
    assert column(parts, "loss") == column(whole, "loss")


def test_without_brains_it_trains_on_heads_alone(folders, tmp_path):
    workflow = train(folders / "heads", tmp_path, BRAIN, **options(folders, brains_dir=None, max_epochs=1))
    assert workflow.parser.get_parsed_content("train#dataset").brains == []


def test_its_folder_names_the_file_of_the_warps_wherever_it_lies(folders, tmp_path):
    path = tmp_path / "warps.pt"
    write_warps(*load_label_maps(find_label_maps(folders / "heads"), read_labels()), path)
    given = options(folders, brains_dir=None, max_epochs=1, warps=str(path))
    train(folders / "heads", tmp_path / "run", BRAIN, **given)
    text = (tmp_path / "run" / "model.json").read_text()
    assert json.loads(text)["fingerprint"]["warps"] == f"warps.pt ({sha256(path)[:12]})"
    assert str(tmp_path) not in text
    assert str(folders) not in text


def test_the_gpu_config_runs_where_there_is_none(folders, tmp_path):
    workflow = train(folders / "heads", tmp_path, BRAIN, GPU, **options(folders, max_epochs=1, batch_size=2))
    assert len(column(tmp_path, "step")) == 3
    assert not (tmp_path / "samples").exists()
    assert workflow.parser.get_parsed_content("train#dataset").group == 2


def test_attention_by_head_has_the_values_and_gradients_of_the_fused_one():
    torch.manual_seed(0)
    plain = TransformerUNet(out_channels=3, **NETWORK).double()
    network = attend_by_head(copy.deepcopy(plain))
    image = torch.rand(1, 1, 32, 32, 32, dtype=torch.float64)
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert sum(isinstance(module, HeadwiseAttend) for module in network.modules()) == 1
    results = [part(image) for part in (network, plain)]
    torch.testing.assert_close(*results)
    for result in results:
        result.square().sum().backward()
    for found, wanted in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad)
    with torch.no_grad():
        torch.testing.assert_close(network(image), results[1])


def test_a_compiled_network_keeps_the_names_of_its_weights():
    plain = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    network = compiled(copy.deepcopy(plain), backend="eager")
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert copy.deepcopy(network).state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(network(torch.ones(2, 3)), plain(torch.ones(2, 3)))
    assert compiled(plain, enabled=False) is plain
