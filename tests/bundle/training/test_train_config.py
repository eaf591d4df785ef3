"""configs/train.json, run by MONAI on label maps made by code."""

from __future__ import annotations

import nibabel as nib
import pytest
import torch
from monai.bundle import create_workflow
from monai.bundle.properties import TrainProperties
from monai.utils.enums import BundlePropertyConfig

from networks import TransformerUNet
from tests.conftest import ROOT
from tests.phantom import phantom_codes, write_phantoms

ID = BundlePropertyConfig.ID
TINY = {
    "channels": [4, 8, 8],
    "hidden_size": 12,
    "mlp_dim": 16,
    "num_layers": 1,
    "num_heads": 2,
    "position_grid": [2, 2, 2],
}


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("maps"))


@pytest.fixture
def train(run_module, maps, tmp_path):
    def run(name: str, max_epochs: int, *arguments: object):
        options = {f"network_def#{key}": value for key, value in TINY.items()}
        options |= {"dataset_dir": maps, "output_dir": tmp_path / name, "max_epochs": max_epochs, "epoch_length": 3}
        options |= {"pixdim": [6.0] * 3, "window_mm": [[96] * 3, [96] * 3], "val_interval": 2, "num_workers": 0}
        options |= {"warmup_steps": 2, "learning_rate": 0.01}
        given = [part for key, value in options.items() for part in (f"--{key}", value)]
        done = run_module("monai.bundle", "run", "--config_file", "configs/train.json", *given, *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        return tmp_path / name, done

    return run


def test_all_training_properties_exist(maps, monkeypatch):
    monkeypatch.chdir(ROOT)
    workflow = create_workflow(config_file="configs/train.json", workflow_type="train", dataset_dir=str(maps))
    assert workflow.check_properties() == []
    assert [prop[ID] for prop in TrainProperties.values() if prop[ID] not in workflow.parser] == []


@pytest.mark.slow
def test_training_validates_saves_and_shows_progress(train):
    folder, done = train("run", 4)
    state = torch.load(folder / "model.pt", weights_only=True)
    TransformerUNet(out_channels=33, **TINY).load_state_dict(state, strict=True)
    assert list((folder / "tensorboard").glob("events*"))
    assert "val_mean_dice" in done.stdout
    assert "loss=" in done.stderr
    assert sorted(path.name for path in folder.glob("checkpoint_*.pt")) == ["checkpoint_3.pt", "checkpoint_4.pt"]


@pytest.mark.slow
def test_resumed_training_equals_an_uninterrupted_one(train):
    whole, _ = train("whole", 3)
    resumed, _ = train("resumed", 3)
    (resumed / "model.pt").unlink()
    (resumed / "checkpoint_3.pt").unlink()
    _, done = train("resumed", 3)  # goes on from checkpoint_2.pt
    assert "checkpoint_2.pt" in done.stdout
    first, second = (torch.load(folder / "model.pt", weights_only=True) for folder in (whole, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_weights_carry_over_to_a_finer_stage_with_real_validation(train, tmp_path):
    folder, _ = train("coarse", 1)
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    codes = nib.Nifti1Image(phantom_codes(), torch.diag(torch.tensor([3.0, 3, 3, 1])).numpy())
    codes.to_filename(pairs / "a_labels.nii.gz")
    nib.Nifti1Image(phantom_codes().astype("float32") % 50, codes.affine).to_filename(pairs / "a_T1.nii.gz")
    fine, done = train(
        "fine", 2, "--init_checkpoint", folder / "model.pt", "--learning_rate", 0.0, "--val_dataset_dir", pairs
    )
    assert "val_mean_dice" in done.stdout
    first, second = (torch.load(path / "model.pt", weights_only=True) for path in (folder, fine))
    assert all(torch.equal(first[key], second[key]) for key in first), "a rate of zero must keep the weights"
