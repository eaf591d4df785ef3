"""configs/own_data.json over train.json, inference.json and evaluate.json, on data sets made by code."""

from __future__ import annotations

import csv
import json
import logging
import sys
from io import StringIO
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from bundle.datasets import read_dataset, split_cases
from bundle.labels import read_labels
from bundle.model import read_model
from bundle.training import InitialWeights
from networks import TransformerUNet
from tests.bundle.training.own_training import bundle_root
from tests.bundle.training.tiny_training import NETWORK
from tests.conftest import ROOT
from tests.labelled import NAMES, SHAPE, write_bids, write_msd, write_nifti

OVERLAY = "configs/own_data.json"
NETWORK_OPTIONS = {f"network_def#{key}": value for key, value in NETWORK.items()}
TRAINING = {"max_epochs": 1, "epoch_length": 2, "batch_size": 2, "window": [16, 16, 16], "val_interval": 1}
TRAINING |= {"num_workers": 1, "warmup_steps": 1, "precision": "float32"}


def run_bundle(*names, **options):
    """Do what ``python -m monai.bundle run`` does, within this process, in the bundle's root."""
    given = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    files = [f"configs/{name}.json" for name in names]
    monai.bundle.run(config_file=files, logging_file=False, **given, **NETWORK_OPTIONS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A data set, the folder of a training on it, and what the training logged."""
    folder, output_dir = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs") / "fold1"
    write_msd(folder)
    brain = tmp_path_factory.mktemp("brain") / "model.pt"
    torch.save(TransformerUNet(**NETWORK).state_dict(), brain)
    given = {"dataset_dir": folder, "output_dir": output_dir, "fold": 1, "num_folds": 3, "init_checkpoint": brain}
    logged, root = StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(logged), root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with bundle_root():
            run_bundle("train", "own_data", **given, **TRAINING)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return folder, output_dir, logged.getvalue()


def test_training_takes_count_and_names_of_the_labels_from_the_dataset(trained):
    _, output_dir, logged = trained
    state = torch.load(output_dir / "model.pt", weights_only=True)
    TransformerUNet(out_channels=3, **NETWORK).load_state_dict(state, strict=True)
    assert {label.code: label.name for label in read_labels(output_dir / "labels.tsv")} == NAMES
    statistics = json.loads((output_dir / "dataset_statistics.json").read_text())["statistics"]
    assert statistics["cases"] == 6
    assert "6 cases, 2 structures" in logged
    assert "left as they were: head.bias, head.weight" in logged
    assert "val_mean_dice" in logged


@pytest.mark.slow
def test_inference_writes_the_codes_of_the_training_beside_the_checkpoint(trained, tmp_path):
    folder, output_dir, _ = trained
    scan = folder / "imagesTr" / "case_02.nii.gz"
    given = {"checkpoint": output_dir / "model.pt", "datalist": [str(scan)], "output_dir": tmp_path}
    with bundle_root():
        run_bundle("inference", "own_data", **given)
    written = nib.load(tmp_path / "case_02" / "case_02_seg.nii.gz")
    assert written.shape == SHAPE
    assert set(np.unique(written.dataobj)) <= set(NAMES)
    with open(tmp_path / "case_02" / "case_02_volumes.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(int(row["code"]), row["name"]) for row in rows] == [(3, "Inner"), (7, "Outer")]


def test_segment_takes_an_overlay(trained, run_main, tmp_path):
    folder, output_dir, _ = trained
    network = tmp_path / "network.json"
    network.write_text(json.dumps(NETWORK_OPTIONS))
    files = [ROOT / "configs/inference.json", ROOT / OVERLAY, network]
    given = [part for file in files for part in ("--config", file)]
    scan = folder / "imagesTr" / "case_03.nii.gz"
    outputs = ["--output-dir", tmp_path / "out", "--checkpoint", output_dir / "model.pt"]
    done = run_main("scripts.segment", *given, scan, *outputs)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert set(np.unique(nib.load(tmp_path / "out/case_03/case_03_seg.nii.gz").dataobj)) <= set(NAMES)


def test_evaluation_scores_the_cases_that_the_fold_held_out(trained, tmp_path):
    folder, output_dir, _ = trained
    given = {"dataset_dir": folder, "fold": 1, "num_folds": 3, "datalist": "@fold_items", "output_dir": tmp_path}
    with bundle_root():
        run_bundle("inference", "evaluate", "own_data", checkpoint=output_dir / "model.pt", **given)
    held_out = {case.name for case in split_cases(read_dataset(folder).cases, 1, 3).val}
    scored = (tmp_path / "scores.csv").read_text()
    assert len(held_out) == 2
    assert {name for name in (f"case_{n:02d}" for n in range(6)) if name in scored} == held_out
    assert "Inner" in scored


def test_evaluation_takes_a_bids_data_set(trained, tmp_path):
    write_bids(tmp_path / "data")
    given = {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
    with bundle_root():
        run_bundle("inference", "evaluate", "own_data", checkpoint=trained[1] / "model.pt", **given)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["cases"] == ["sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a", "sub-02_ses-b", "sub-03"]
    assert list(summary["structures"]) == ["Inner", "Outer"]


def test_training_lists_every_problem_and_leaves_nothing(tmp_path, caplog, capsys):
    names = write_msd(tmp_path / "data")
    write_nifti(tmp_path / "data/labelsTr" / f"{names[1]}.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    (tmp_path / "data/labelsTr" / f"{names[4]}.nii.gz").unlink()
    folders = {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "run"}
    with bundle_root():
        with pytest.raises(RuntimeError) as raised:
            run_bundle("train", "own_data", **folders, **TRAINING)
        shown_by = sys.excepthook
    assert "case_01.nii.gz: found no labelled voxel" in caplog.text
    assert "case_04.nii.gz: no such file" in caplog.text
    capsys.readouterr()
    shown_by(raised.type, raised.value, raised.tb)  # as Python does where nobody catches the error
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "found 2 problems" in line
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def parsed(monkeypatch, **changes):
    """Return the parser of train.json with the overlay, resolved within this process."""
    monkeypatch.chdir(ROOT)
    parser = ConfigParser(ConfigParser.load_config_files(["configs/train.json", OVERLAY]))
    for key, value in {**TRAINING, "num_folds": 3, **changes}.items():
        parser[key] = value
    return parser


def test_bids_folder_goes_through_the_same_overlay(monkeypatch, tmp_path):
    write_bids(tmp_path / "data")
    parser = parsed(monkeypatch, dataset_dir=str(tmp_path / "data"), output_dir=str(tmp_path / "run"))
    train, validate = (parser.get_parsed_content(f"{part}#dataset") for part in ("train", "validate"))
    assert parser.get_parsed_content("num_classes") == 3
    assert len(train) == 4  # two steps of two
    assert {case.subject for case in train.source.cases} & {case.subject for case in validate.cases} == set()
    for sample in (train[0], train[5]):
        assert sample["image"].shape == sample["label"].shape == (1, 16, 16, 16)
        assert 0 <= sample["image"].min() < sample["image"].max() < 2
        assert sample["label"].unique().tolist() == [0, 1, 2]
    assert validate[0]["image"].shape == (1, *SHAPE)


def test_training_and_inference_prepare_an_image_alike(monkeypatch, tmp_path):
    write_msd(tmp_path / "data")
    parser = parsed(monkeypatch, dataset_dir=str(tmp_path / "data"), output_dir=str(tmp_path / "run"))
    validate = parser.get_parsed_content("validate#dataset")
    inference = ConfigParser(ConfigParser.load_config_files(["configs/inference.json", OVERLAY]))
    image = inference.get_parsed_content("preprocessing")({"image": str(validate.cases[0].image)})["image"]
    assert torch.equal(torch.as_tensor(image.array), validate[0]["image"])


def test_default_augmentation_never_flips():
    overlay = json.loads((ROOT / OVERLAY).read_text())
    assert "Flip" not in json.dumps(overlay["augmentation"])
    assert "Rotate90" not in json.dumps(overlay["augmentation"])


def test_hippocampus_task_is_what_the_shipped_model_says_that_it_is(monkeypatch):
    monkeypatch.chdir(ROOT)
    files = ["configs/train.json", OVERLAY, "configs/hippocampus.json"]
    parser, model = ConfigParser(ConfigParser.load_config_files(files)), read_model(ROOT / "models/hippocampus")
    for name in ("task", "pixdim", "window", "roi_size"):
        assert parser.get_parsed_content(name) == model.content[name]
    given = parser["network_def"]
    position_grid = parser.get_parsed_content("network_def#position_grid")
    assert given | {"out_channels": 3, "position_grid": position_grid} == model.content["network_def"]
    assert parser.get_parsed_content("max_epochs") * parser.get_parsed_content("epoch_length") == 1340
    parser["fold"] = 2
    assert parser.get_parsed_content("output_dir") == f"{ROOT}/runs/hippocampus/fold_2"


def test_shipped_table_is_that_of_the_overlay():
    labels = read_labels(ROOT / "models/hippocampus/labels.tsv")
    assert [(label.code, label.name) for label in labels] == [(0, "background"), (1, "Anterior"), (2, "Posterior")]


@pytest.mark.parametrize(("init_checkpoint", "used"), [(None, True), ("", False)])
def test_training_starts_from_the_brain_weights_unless_told_otherwise(monkeypatch, tmp_path, init_checkpoint, used):
    write_msd(tmp_path / "data")
    changes = {} if init_checkpoint is None else {"init_checkpoint": init_checkpoint}
    parser = parsed(monkeypatch, dataset_dir=str(tmp_path / "data"), output_dir=str(tmp_path / "run"), **changes)
    handlers = [handler for handler in parser.get_parsed_content("train#handlers") if handler is not None]
    loaders = [handler for handler in handlers if isinstance(handler, InitialWeights)]
    assert [Path(loader.path) for loader in loaders] == ([ROOT / "models/model.pt"] if used else [])
