"""configs/train.json on scans with label maps, as MONAI Label's Train gives them."""

from __future__ import annotations

import json
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run

from bundle.errors import OptionError, root_cause
from bundle.io import read_label_map
from bundle.labels import read_labels
from networks import TransformerUNet
from tests.bundle.training.tiny_training import NETWORK, OPTIONS, TRAIN, equal, weights
from tests.conftest import ROOT
from tests.phantom import phantom_codes

CHANNEL = {label.code: label.channel for label in read_labels()}
AFFINE = np.diag([3.0, 3, 3, 1])


def write_items(folder, values, count=2):
    """Write scans with label maps of codes or channels and return the items of a client."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for index in range(count):
        codes = phantom_codes(0.03 * index)
        codes[codes > 500] = 0  # skin and skull, which only the generator's label maps have
        image = np.random.default_rng(index).normal(codes % 50, 2).astype("float32")
        labels = codes if values == "codes" else np.vectorize(CHANNEL.get)(codes).astype(np.int16)
        paths = [folder / f"{kind}_{index}.nii.gz" for kind in ("image", "label")]
        for path, data in zip(paths, (image, labels), strict=True):
            nib.Nifti1Image(data, AFFINE).to_filename(path)
        items.append(dict(zip(("image", "label"), map(str, paths), strict=True)))
    return items


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights of the tiny network that are not those that it is made with."""
    path = tmp_path_factory.mktemp("start") / "model.pt"
    torch.manual_seed(3)
    torch.save(TransformerUNet(out_channels=33, **NETWORK).state_dict(), path)
    return path


def train_as_monai_label(items, held_out, start, output_dir, **options):
    """Train as ``BundleTrainTask`` of MONAI Label 0.8.5 does, with the weights that it puts in front."""
    parser = ConfigParser()
    parser.read_config(TRAIN)
    loader = {
        "_target_": "CheckpointLoader",
        "load_path": str(start),
        "load_dict": {"model": "$@network"},
        "strict": False,
    }
    overrides = {
        "bundle_root": str(ROOT),
        "train#trainer#max_epochs": 2,
        "train#dataset#data": items,
        "device": "cpu",
        "train#handlers": [loader, *parser.get("train#handlers")],
        "validate#dataset#data": held_out,
    }
    given = {**OPTIONS, "output_dir": str(output_dir), **overrides, **options}
    del given["epoch_length"], given["max_epochs"]
    hook = sys.excepthook
    try:
        run(
            run_id="run", init_id=None, final_id=None, meta_file=str(ROOT / "configs/metadata.json"),
            config_file=TRAIN, logging_file=False, **given,
        )  # fmt: skip
    finally:
        sys.excepthook = hook


@pytest.mark.parametrize("values", ["codes", "channels"])
def test_training_on_items_of_a_client_ends_in_a_model_folder(values, start, tmp_path):
    items = write_items(tmp_path / "data", values, 3)
    train_as_monai_label(items[:2], items[2:], start, tmp_path / "run")
    content = json.loads((tmp_path / "run/model.json").read_text())
    assert content["training"]["steps"] == 4, "an epoch is a pass over the scans"
    assert content["dataset"]["cases"] == 2
    assert content["labels"]["codes"] == [label.code for label in read_labels()]
    assert not equal(weights(tmp_path / "run/model.pt"), weights(start))


def test_training_starts_from_the_weights_that_the_client_names(start, tmp_path):
    items = write_items(tmp_path / "data", "codes")
    train_as_monai_label(items, [], start, tmp_path / "run", learning_rate=0.0)
    assert equal(weights(tmp_path / "run/model.pt"), weights(start)), "a rate of zero keeps them"


def parser_of(items, **options):
    parser = ConfigParser()
    parser.read_config(TRAIN)
    parser.update({"bundle_root": str(ROOT), "pixdim": [3.0] * 3, "window_mm": [[96] * 3] * 2, **options})
    parser["train#dataset#data"] = items
    parser["validate#dataset#data"] = None
    return parser


def test_labels_in_channels_and_in_codes_are_the_same_samples(tmp_path):
    samples = [
        parser_of(write_items(tmp_path / values, values)).get_parsed_content("train#dataset")[5]
        for values in ("codes", "channels")
    ]
    for key in ("image", "label"):
        torch.testing.assert_close(samples[0][key], samples[1][key], atol=0, rtol=0)
    wanted = {CHANNEL[code] for code in np.unique(phantom_codes()) if code < 500}
    assert set(samples[0]["label"].unique().tolist()) <= wanted
    assert samples[0]["label"].max() > 18
    assert samples[0]["image"].shape == samples[0]["label"].shape == (1, 32, 32, 32)


def refusal(parser):
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content("read_values")
    assert isinstance(root_cause(caught.value), OptionError)
    return str(root_cause(caught.value))


def test_values_that_could_be_either_are_refused_until_somebody_says_which(tmp_path):
    items = write_items(tmp_path, "codes", 1)
    label = items[0]["label"]
    hippocampus = np.where(read_label_map(label).codes == 16, 14, 0).astype(np.int16)
    nib.Nifti1Image(hippocampus, AFFINE).to_filename(label)
    line = (
        "label_values: found values that codes and channels both have (0, 14); label_values codes or channels is wanted"
    )
    assert refusal(parser_of(items)) == line
    for values in ("codes", "channels"):
        assert parser_of(items, label_values=values).get_parsed_content("read_values") == values


def test_label_maps_of_both_kinds_are_refused(tmp_path):
    items = write_items(tmp_path / "a", "codes", 1) + write_items(tmp_path / "b", "channels", 1)
    assert "found label maps of both kinds: codes such as 41, channels such as 1;" in refusal(parser_of(items))


def test_label_maps_alone_hold_codes_and_are_not_read_for_it():
    parser = parser_of("$no_such_function()")
    assert parser.get_parsed_content("read_values") == "codes"
    assert parser.get_parsed_content("output_dir") == f"{ROOT}/runs/brain"


def test_corrected_labels_are_another_training(tmp_path):
    items = write_items(tmp_path, "codes", 2)
    before = parser_of(items).get_parsed_content("output_dir")
    assert before.startswith(f"{ROOT}/runs/labelled_")
    assert parser_of(items).get_parsed_content("output_dir") == before
    codes = read_label_map(items[0]["label"]).codes.copy()
    codes[30, 30, 30] = 60
    nib.Nifti1Image(codes, AFFINE).to_filename(items[0]["label"])
    assert parser_of(items).get_parsed_content("output_dir") != before
    assert parser_of(items[1:]).get_parsed_content("output_dir") != before
