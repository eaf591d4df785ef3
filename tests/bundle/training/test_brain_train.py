"""configs/brain_train.json and gpu_train.json, run by MONAI on label maps made by code."""

from __future__ import annotations

import copy
import json
import re
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
from bundle.training import RecordedStep, attend_by_head, compile_group_norm, find_label_maps
from bundle.training.attending import HeadwiseAttend
from bundle.training.schedule import ResumableWarmupCosine
from networks import TransformerUNet
from networks.transformer_unet import conv_block
from tests.bundle.training.tiny_training import NETWORK, column, equal, train, weights
from tests.conftest import ROOT
from tests.phantom import SPACING, brain_codes, write_phantoms

BRAIN, GPU = (str(ROOT / "configs" / name) for name in ("brain_train.json", "gpu_train.json"))


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


def test_the_model_is_of_any_contrast_and_not_judged_by_t1(folders, tmp_path):
    workflow = train(folders / "heads", tmp_path, BRAIN, **options(folders))
    assert workflow.parser.get_parsed_content("train#dataset#options")["random_contrast"] == 0.6
    model = read_model(tmp_path)
    assert model.flags_left_out == ["contrast_white", "contrast_fluid", "contrast_depth"]
    assert "any contrast" in model.content["description"]
    assert model.content["fingerprint"]["random_contrast"] == 0.6


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


@pytest.mark.slow
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
    step = workflow.parser.get_parsed_content("train#trainer#iteration_update")
    assert isinstance(step, RecordedStep)
    assert not step.enabled


def assert_alike(network, plain, image):
    """Compare what two networks of the same parameters return, and the gradients of these."""
    results = [part(image) for part in (network, plain)]
    torch.testing.assert_close(*results)
    for result in results:
        result.square().sum().backward()
    for found, wanted in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad)


def test_attention_by_head_has_the_values_and_gradients_of_the_fused_one():
    torch.manual_seed(0)
    plain = TransformerUNet(out_channels=3, **NETWORK).double()
    network = attend_by_head(copy.deepcopy(plain))
    image = torch.rand(1, 1, 32, 32, 32, dtype=torch.float64)
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert sum(isinstance(module, HeadwiseAttend) for module in network.modules()) == 1
    assert_alike(network, plain, image)
    with torch.no_grad():
        torch.testing.assert_close(network(image), plain(image))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_group_norm_has_the_values_gradients_and_names_of_pytorchs(backend):
    torch.manual_seed(0)
    plain = torch.nn.Sequential(conv_block(1, 16), conv_block(16, 24)).double()
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, 0.5)
    assert compile_group_norm(copy.deepcopy(plain), enabled=False)[0][1].__class__ is torch.nn.GroupNorm
    network = compile_group_norm(copy.deepcopy(plain), backend=backend)
    assert [type(module).__name__ for module in network[1]] == ["Conv3d", "CompiledGroupNorm", "LeakyReLU"]
    assert network.state_dict().keys() == plain.state_dict().keys() == copy.deepcopy(network).state_dict().keys()
    for size in ((1, 1, 8, 10, 8), (2, 1, 12, 14, 12)):
        image = torch.randn(size, dtype=torch.float64).to(memory_format=torch.channels_last_3d)
        assert_alike(network, plain, image)


def test_a_training_for_some_minutes_ends_with_a_rate_of_nothing(folders, tmp_path):
    given = options(folders, max_epochs=1000, minutes=0.05, warmup_steps=1, epoch_length=4)
    workflow = train(folders / "heads", tmp_path, BRAIN, GPU, **given)
    schedule, trainer = (workflow.parser.get_parsed_content(key) for key in ("lr_scheduler", "train#trainer"))
    assert schedule.share() >= 1
    assert 3 <= trainer.state.iteration < 4000
    assert trainer.optimizer.param_groups[0]["lr"] < 1e-5
    assert (tmp_path / "model.pt").is_file()
    assert re.search(r"epoch 1: loss [\d.]+, rate [\d.e-]+, \d s left", (tmp_path / "training.log").read_text())


def test_time_spent_is_kept_by_a_checkpoint():
    def schedule(minutes):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
        return ResumableWarmupCosine(optimizer, warmup_steps=0, t_total=10, minutes=minutes), optimizer

    first, _ = schedule(2.0)
    assert first.share() == 0.0
    first.spent = 60.0
    again, optimizer = schedule(2.0)
    again.load_state_dict(first.state_dict())
    assert again.share() == pytest.approx(0.5, abs=0.01)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.0, abs=0.05)
    by_steps, optimizer = schedule(None)
    by_steps.load_state_dict({"last_epoch": 5})
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.0)
