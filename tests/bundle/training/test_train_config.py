"""configs/train.json, run by MONAI on label maps made by code."""

from __future__ import annotations

import math

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow
from monai.bundle.properties import TrainProperties
from monai.metrics import DiceMetric
from monai.utils.enums import BundlePropertyConfig

from bundle.datasets import read_dataset
from bundle.errors import BundleError, InputError, OptionError, TrainingError, root_cause
from bundle.labels import read_labels
from networks import TransformerUNet
from tests.bundle.training.tiny_training import NETWORK, OPTIONS, TRAIN, column, equal, train, weights
from tests.conftest import ROOT
from tests.labelled import LAYOUTS, SHAPE, make_pair, write_nifti
from tests.phantom import phantom_codes

ID = BundlePropertyConfig.ID


@pytest.fixture(scope="module")
def trained(phantom_maps, tmp_path_factory):
    """The folder of a finished training of two epochs, with a validation after each."""
    folder = tmp_path_factory.mktemp("trained")
    train(phantom_maps, folder, val_interval=1)
    return folder


def message(error: BaseException, kind: type[BundleError] = TrainingError) -> str:
    """Return what the error says that MONAI wrapped."""
    cause = root_cause(error)
    assert type(cause) is kind
    assert "\n" not in str(cause)
    return str(cause)


def test_all_training_properties_exist(phantom_maps, monkeypatch):
    monkeypatch.chdir(ROOT)
    workflow = create_workflow(config_file=TRAIN, workflow_type="train", dataset_dir=str(phantom_maps))
    assert workflow.check_properties() == []
    assert [prop[ID] for prop in TrainProperties.values() if prop[ID] not in workflow.parser] == []


def test_final_and_best_weights_are_averages_that_fit_the_network(trained):
    metric = column(trained, "val_mean_dice")
    best = 1 + int(np.argmax(metric))
    for path, epoch in (("model.pt", 2), ("model_best.pt", best)):
        saved = weights(trained / path)
        TransformerUNet(out_channels=33, **NETWORK).load_state_dict(saved, strict=True)
        state = torch.load(trained / f"checkpoint_{epoch}.pt", weights_only=True)
        assert equal(saved, {key: state["ema"][f"module.{key}"] for key in saved})
        assert not equal(saved, state["model"])
        assert state["ema"]["n_averaged"] == 3 * epoch
    assert state["best"]["best_metric"] == max(metric)


def test_validation_scores_the_averaged_weights(trained, phantom_maps):
    options = {"bundle_root": str(ROOT), "dataset_dir": str(phantom_maps), **OPTIONS}
    workflow = create_workflow(config_file=TRAIN, workflow_type="train", logging_file=False, **options)
    workflow.initialize()
    network = TransformerUNet(out_channels=33, **NETWORK).eval()
    network.load_state_dict(weights(trained / "model.pt"))
    score = DiceMetric(include_background=False, num_classes=33)
    for index in range(OPTIONS["validate#dataset#length"]):
        sample = workflow.val_dataset[index]
        with torch.no_grad():
            score(network(sample["image"][None]).argmax(1, keepdim=True), sample["label"][None])
    assert column(trained, "val_mean_dice")[-1] == pytest.approx(float(score.aggregate()), abs=1e-5)


def test_history_holds_every_step_and_the_schedule(trained):
    assert column(trained, "step") == list(range(1, 7))
    assert column(trained, "epoch") == [1, 1, 1, 2, 2, 2]
    cosine = [0.5 + 0.5 * math.cos(math.pi * step / 4) for step in range(4)]
    np.testing.assert_allclose(column(trained, "learning_rate"), [0, 0.005, *(0.01 * x for x in cosine)], rtol=1e-6)
    assert all(math.isfinite(loss) for loss in column(trained, "loss"))
    assert list((trained / "tensorboard").glob("events*"))


def test_training_stops_when_the_metric_no_longer_improves(phantom_maps, tmp_path):
    options = {"learning_rate": 0.0, "max_epochs": 9, "val_interval": 1, "patience": 2}
    first = train(phantom_maps, tmp_path, **options)
    assert first.trainer.state.epoch == 3  # the first is the best, two more are no better
    before = weights(tmp_path / "model.pt")
    (tmp_path / "model.pt").unlink()
    again = train(phantom_maps, tmp_path, **options)
    assert again.trainer.state.epoch == 3
    assert len(column(tmp_path, "step")) == 9
    assert equal(before, weights(tmp_path / "model.pt"))


def test_a_longer_command_goes_on_along_its_own_schedule(trained, phantom_maps, tmp_path):
    for epochs in (1, 3):
        train(phantom_maps, tmp_path, max_epochs=epochs, learning_rate=0.02)
    rates = column(tmp_path, "learning_rate")
    cosine = [0.5 + 0.5 * math.cos(math.pi * step / 7) for step in range(1, 7)]
    np.testing.assert_allclose(rates[3:], [0.02 * x for x in cosine], rtol=1e-6)


def test_checkpoint_of_another_training_is_refused_by_name(trained, phantom_maps, tmp_path):
    with pytest.raises(RuntimeError) as raised:
        train(phantom_maps, trained, **{"network_def#hidden_size": 24})
    assert message(raised.value) == (
        f"{trained}: found a training with network_def#hidden_size 12, this one has 24; "
        "another --output_dir, or --restart True, is wanted"
    )
    state = torch.load(trained / "checkpoint_2.pt", weights_only=True)
    torch.save(state, tmp_path / "checkpoint_2.pt")  # whose model.json is gone
    with pytest.raises(RuntimeError) as raised:
        train(phantom_maps, tmp_path, seed=7)
    assert "checkpoint_2.pt: found a training with seed 0, this one has 7; another" in message(raised.value)
    torch.save({key: value for key, value in state.items() if key != "fingerprint"}, tmp_path / "checkpoint_2.pt")
    (tmp_path / "model.json").unlink()  # as version 0.9 wrote them
    with pytest.raises(RuntimeError) as raised:
        train(phantom_maps, tmp_path, **{"network_def#hidden_size": 24})
    assert f"{tmp_path / 'checkpoint_2.pt'}: found the checkpoint of another training" in message(raised.value)


def test_diverging_training_stops_and_leaves_no_weights(phantom_maps, tmp_path):
    with pytest.raises(RuntimeError) as raised:
        train(phantom_maps, tmp_path, learning_rate=1e30, warmup_steps=0)
    assert message(raised.value).startswith("training stopped at step 2, epoch 1: found a loss of nan")
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [("precision", "float16", "float32, bfloat16, auto"), ("ema_decay", 1.0, "below 1"), ("patience", 0, "from 1 on")],
)
def test_value_out_of_range_is_refused(phantom_maps, tmp_path, option, value, wanted):
    with pytest.raises(RuntimeError) as raised:
        train(phantom_maps, tmp_path, **{option: value})
    line = message(raised.value, OptionError)
    assert line.startswith(f"{option}: found ")
    assert str(value) in line
    assert wanted in line


def test_bfloat16_follows_the_losses_of_float32(trained, phantom_maps, tmp_path):
    train(phantom_maps, tmp_path, val_interval=1, precision="bfloat16")
    exact, rounded = (column(folder, "loss") for folder in (trained, tmp_path))
    np.testing.assert_allclose(rounded, exact, rtol=0.03)
    assert exact != rounded
    assert all(value.dtype == torch.float32 for value in weights(tmp_path / "model.pt").values())


def test_weights_carry_over_to_a_finer_stage_with_real_validation(trained, phantom_maps, tmp_path):
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    codes = nib.Nifti1Image(phantom_codes(), np.diag([3.0, 3, 3, 1]))
    codes.to_filename(pairs / "a_labels.nii.gz")
    nib.Nifti1Image(phantom_codes().astype("float32") % 50, codes.affine).to_filename(pairs / "a_T1.nii.gz")
    options = {"init_checkpoint": str(trained / "model.pt"), "val_dataset_dir": str(pairs)}
    train(phantom_maps, tmp_path / "fine", learning_rate=0.0, **options)
    assert column(tmp_path / "fine", "val_mean_dice")
    carried = equal(weights(trained / "model.pt"), weights(tmp_path / "fine" / "model.pt"))
    assert carried, "a rate of zero must keep the weights"


@pytest.fixture(scope="module")
def validation():
    """The parser of the config, for the parts that read real validation data."""
    parser = ConfigParser(ConfigParser.load_config_files([TRAIN]))
    parser["bundle_root"] = str(ROOT)
    return parser


@pytest.mark.parametrize("write_dataset", LAYOUTS, ids=lambda write: write.__name__)
def test_validation_takes_a_data_set_in_any_layout(validation, tmp_path, write_dataset):
    write_dataset(tmp_path)
    validation["val_dataset_dir"], validation["pixdim"] = str(tmp_path), [1.0] * 3
    items = validation.get_parsed_content("validate#dataset#data")
    assert len(items) == len(read_dataset(tmp_path).cases)
    sample = validation.get_parsed_content("validate#preprocessing")(items[0])
    channels = {label.code: label.channel for label in read_labels()}
    assert sample["label"].unique().tolist() == [0, channels[3], channels[7]]
    assert sample["image"].shape == sample["label"].shape == (1, *SHAPE)


def _fraction(codes):
    codes[3, 3, 3] = 2.5
    return codes


def _nan(codes):
    codes[3, 3, 3] = np.nan
    return codes


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_fraction, "labels that are no whole numbers (2.5)"),
        (_nan, "1 voxels that are NaN or Inf"),
        (lambda codes: np.stack([codes, codes], axis=-1), "shape (14, 16, 12, 2)"),
        (None, "at most"),
    ],
    ids=["fraction", "NaN", "4D", "truncated"],
)
def test_validation_labels_that_cannot_be_used_are_refused_by_name(validation, tmp_path, spoil, found):
    image, codes = make_pair(0)
    label = tmp_path / "a_labels.nii"
    write_nifti(tmp_path / "a_T1.nii.gz", image)
    write_nifti(label, codes.astype(np.float32) if spoil is None else spoil(codes.astype(np.float32)))
    if spoil is None:
        label.write_bytes(label.read_bytes()[:1000])
    preprocessing = validation.get_parsed_content("validate#preprocessing")
    with pytest.raises((RuntimeError, InputError)) as raised:
        preprocessing({"image": str(tmp_path / "a_T1.nii.gz"), "label": str(label)})
    assert message(raised.value, InputError).startswith(f"{label}: found {found}")


def test_coarse_stage_overlays_the_fine_one(phantom_maps, tmp_path):
    coarse = str(ROOT / "configs" / "coarse.json")
    options = {"bundle_root": str(ROOT), "dataset_dir": str(phantom_maps), "max_epochs": 7}
    workflow = create_workflow(config_file=[TRAIN, coarse], workflow_type="train", logging_file=False, **options)
    workflow.initialize()
    dataset, schedule = (workflow.parser.get_parsed_content(key) for key in ("train#dataset", "lr_scheduler"))
    assert dataset.spacing == 2.5
    assert dataset.eighths == [[7, 8, 7], [10, 11, 10]]
    assert (schedule.base_lrs, schedule.warmup_steps, schedule.t_total) == ([0.0015], 100, 700)
