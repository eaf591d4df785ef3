"""A training leaves a model that says what it is of, and does not go on from one of something else."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from jsonschema import Draft202012Validator

from bundle.datasets import dataset_facts, read_dataset, split_cases
from bundle.errors import InputError, TrainingError, root_cause
from bundle.model import build_network, find_model, read_model
from bundle.provenance import sha256
from bundle.training.preprocessing import normalisation_of
from tests.bundle.training.own_training import TRAINING, run_bundle, train_on
from tests.bundle.training.tiny_training import equal, train, weights
from tests.conftest import ROOT
from tests.labelled import CODES, make_pair, write_dataset_json, write_msd, write_nifti

SCHEMA = json.loads((ROOT / "configs/model.schema.json").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset_json(folder, write_msd(folder), licence="CC BY-SA 4.0")
    return folder


@pytest.fixture(scope="module")
def fold_0(data, tmp_path_factory):
    return train_on(data, tmp_path_factory.mktemp("runs") / "own", fold=0)


def refusal(*given, **options):
    with pytest.raises(RuntimeError) as raised:
        train_on(*given, **options)
    cause = root_cause(raised.value)
    assert isinstance(cause, TrainingError)
    assert "\n" not in str(cause)
    return str(cause)


def state_of(folder):
    return {path.name: (sha256(path), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


def test_training_leaves_a_folder_that_says_all_of_it(data, fold_0):
    model = read_model(fold_0)
    content, split = model.content, split_cases(read_dataset(data).cases, 0, 3)
    Draft202012Validator(SCHEMA).validate(content)
    for name in ("model.pt", "model_best.pt"):
        assert content["weights"][name]["sha256"] == sha256(fold_0 / name)
    assert content["task"] == "own_data"
    assert (model.pixdim, content["window"], content["normalisation"]["kind"]) == ([1.0] * 3, [16] * 3, "percentiles")
    assert (content["labels"]["codes"], content["labels"]["names"][1:]) == (list(CODES), ["Inner", "Outer"])
    assert (content["licence"], content["dataset"]["cases"]) == ("CC BY-SA 4.0", 6)
    assert model.held_out == [case.name for case in split.val]
    assert model.trained_on == [case.name for case in split.train]
    assert content["training"] | {"date": None} == {"steps": 2, "epochs": 1, "start": None, "date": None}
    assert set(content["scores"]["model.pt"]) == {"val_mean_dice"}
    assert content["foreground_crop"] is None
    for place in (data, fold_0, ROOT):
        assert str(place) not in json.dumps(content)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 1}, "fold 0, this one has 1 (split too)"),
        ({"fold": 0, "pixdim": [1.5] * 3}, "pixdim [1.0, 1.0, 1.0], this one has [1.5, 1.5, 1.5]"),
        ({"fold": 0, "network_def#num_layers": 2}, "network_def#num_layers 1, this one has 2"),
        ({"fold": 0, "seed": 3}, "seed 0, this one has 3"),
        ({"fold": 0, "class_weight_power": 0.5}, "class_weight_power 0.0, this one has 0.5"),
        ({"fold": 0, "train#loss#include_background": False}, "train#loss "),
        ({"fold": 0, "preprocessing#transforms#4#upper": 99.0}, "preprocessing "),
    ],
)
def test_going_on_as_something_else_is_refused_by_id_and_changes_nothing(data, fold_0, options, message):
    before = state_of(fold_0)
    line = refusal(data, fold_0, **options)
    assert line.startswith(f"{fold_0}: found a training with {message}")
    assert line.endswith("; another --output_dir, or --restart True, is wanted")
    assert state_of(fold_0) == before


def test_what_no_description_may_hold_is_refused_before_the_training(data, tmp_path):
    with pytest.raises(RuntimeError) as raised:
        train_on(data, tmp_path / "run", fold=0, task="a/b")
    line = str(root_cause(raised.value))
    assert line.startswith(f"{tmp_path / 'run' / 'model.json'}: found task other than is legal")
    assert not (tmp_path / "run" / "model.json").exists()


def test_network_of_others_trains_and_says_that_it_needs_its_config(data, tmp_path):
    basic = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": "@num_classes"}
    basic |= {"channels": [4, 8], "strides": [2], "norm": ["instance", {"affine": True}]}
    (tmp_path / "net.json").write_text(json.dumps({"network_def": basic}))
    given = {**TRAINING, "dataset_dir": data, "output_dir": tmp_path / "run", "fold": 0}
    run_bundle("train", "own_data", str(tmp_path / "net.json"), **given)
    content = read_model(tmp_path / "run").content
    assert content["network_def"] is None
    assert content["fingerprint"]["network_def"] == "UNet"
    with pytest.raises(InputError, match="describes no network of this bundle"):
        build_network(read_model(tmp_path / "run"))


def test_another_data_set_or_corrected_labels_are_refused(data, fold_0, tmp_path):
    other = shutil.copytree(data, tmp_path / "data")
    assert dataset_facts(read_dataset(other)).value == dataset_facts(read_dataset(data)).value
    _, label = make_pair(2)
    label[label == 7] = 3
    write_nifti(other / "labelsTr" / "case_02.nii.gz", label)
    before = state_of(fold_0)
    assert 'found a training with dataset_dir "6 cases (' in refusal(other, fold_0, fold=0)
    assert state_of(fold_0) == before


def test_same_training_goes_on_wherever_its_data_lies(data, fold_0, tmp_path):
    moved = shutil.copytree(data, tmp_path / "moved")
    run = shutil.copytree(fold_0, tmp_path / "run")
    train_on(moved, run, fold=0, max_epochs=2)
    content = read_model(run).content
    assert content["training"]["epochs"] == 2
    assert content["weights"]["model.pt"]["sha256"] == sha256(run / "model.pt")
    assert not equal(weights(run / "model.pt"), weights(fold_0 / "model.pt"))


def test_restart_replaces_what_was_there(data, fold_0, tmp_path):
    run = shutil.copytree(fold_0, tmp_path / "run")
    train_on(data, run, fold=1, restart=True)
    fresh = train_on(data, tmp_path / "fresh", fold=1)
    assert equal(weights(run / "model.pt"), weights(fresh / "model.pt"))
    assert read_model(run).content["split"]["fold"] == 1


def test_corrected_sides_in_the_label_table_stay(data, fold_0, tmp_path):
    run = shutil.copytree(fold_0, tmp_path / "run")
    corrected = (run / "labels.tsv").read_text().replace("Inner", "Core")
    (run / "labels.tsv").write_text(corrected)
    train_on(data, run, fold=0)
    assert (run / "labels.tsv").read_text() == corrected


def test_brain_training_is_a_folder_of_brain(phantom_maps, tmp_path):
    train(phantom_maps, tmp_path / "brain")
    model = read_model(tmp_path / "brain")
    Draft202012Validator(SCHEMA).validate(model.content)
    assert (model.task, model.pixdim, model.roi_size) == ("brain", [6.0] * 3, [32, 40, 32])
    assert model.foreground_crop == {"threshold": 0.1, "margin": 6}
    assert model.content["normalisation"] == {"kind": "head", "lower": 0.5, "upper": 99.5}
    assert (model.unscored, model.ignore, model.held_out) == ([24], [255], None)
    assert find_model(ROOT / "models", tmp_path / "brain/model.pt", ROOT / "models").pixdim == [6.0] * 3
    assert torch.load(tmp_path / "brain/checkpoint_2.pt", weights_only=True)["fingerprint"]


@pytest.mark.parametrize(
    ("transforms", "wanted"),
    [
        ([("ScaleIntensityRanged", {"a_min": -10, "a_max": 90})], {"kind": "range", "lower": -10.0, "upper": 90.0}),
        ([("ScaleIntensityRanged", {"a_min": -10, "a_max": 90, "clip": False})], {"kind": "own"}),
        ([("ScaleIntensityRanged", {"a_min": -10, "a_max": 90}), ("GaussianSmoothd", {})], {"kind": "own"}),
        ([("NormalizeIntensityd", {"nonzero": True})], {"kind": "own"}),
        ([("Orientationd", {"axcodes": "LPS"}), ("ScaleIntensityRanged", {"a_min": 0, "a_max": 1})], {"kind": "own"}),
        ([("MapLabelValued", {"keys": "label"}), ("ScaleIntensityRangePercentilesd", {"lower": 1, "upper": 99})],
         {"kind": "percentiles", "lower": 1.0, "upper": 99.0}),
        ([("bundle.inference.ScaleIntensitiesd", {"lower": 1, "upper": 99})],
         {"kind": "head", "lower": 1.0, "upper": 99.0}),
        ([], {"kind": "own"}),
    ],
)  # fmt: skip
def test_normalisation_is_what_the_transforms_do(transforms, wanted):
    plain = {"keys": "image", "b_min": 0.0, "b_max": 1.0, "clip": True}
    listed = [{"_target_": name, **plain, **options} for name, options in transforms]
    assert normalisation_of({"transforms": listed}) == wanted
