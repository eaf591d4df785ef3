"""The folder of a model: enough to segment with, the same wherever it lies, and never code."""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zipfile

import nibabel as nib
import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from bundle.errors import BundleWarning, InputError, MissingError, OptionError, WeightsError, root_cause
from bundle.inference.segmenter import Segmenter
from bundle.io import load_weights
from bundle.labels import read_labels
from bundle.model import build_network, find_model, read_model, weights_file
from tests.conftest import ROOT
from tests.labelled import CODES, SHAPE, write_pair
from tests.model_folder import description, write_folder
from tests.threads import one_thread

SCHEMA = json.loads((ROOT / "configs/model.schema.json").read_text())
SHIPPED = ("models", "models/hippocampus")
FAST = {"engine": "torch", "precision": "float32", "device": "cpu"}


@pytest.fixture(autouse=True)
def _from_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("models") / "made")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    place = tmp_path_factory.mktemp("scan")
    write_pair(place / "case.nii.gz", place / "labels.nii.gz", 0)
    return place / "case.nii.gz"


def zipped(folder, path, root="made/"):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, root + file.name)
    return path


def segmented(scan, output_dir, **ids):
    """Return the label map and the record of a scan."""
    paths = Segmenter(output_dir=str(output_dir), **FAST, **ids).segment(scan)
    return np.asarray(nib.load(paths.label_map).dataobj), json.loads(paths.record.read_text())


def described(schema):
    """Yield each part of a schema that stands for a field."""
    for part in schema.get("properties", {}).values():
        yield part
        yield from described(part)


def test_schema_describes_every_field():
    Draft202012Validator.check_schema(SCHEMA)
    parts = list(described(SCHEMA))
    assert len(parts) > 25
    assert all(len(part.get("description", "")) > 8 for part in parts)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_are_such_folders(name):
    model = read_model(ROOT / name)
    Draft202012Validator(SCHEMA).validate(model.content)
    network = load_weights(build_network(model), weights_file(name))
    assert sum(p.numel() for p in network.parameters()) == model.content["parameters"]
    assert str(ROOT) not in (ROOT / name / "model.json").read_text()


def test_tables_and_configs_say_what_the_brain_model_does():
    brain = read_model(ROOT / "models")
    assert brain.label_table.read_bytes() == (ROOT / "configs/labels.tsv").read_bytes()
    train = json.loads((ROOT / "configs/train.json").read_text())
    assert (train["pixdim"], train["foreground_crop"]) == (brain.pixdim, brain.foreground_crop)
    assert json.loads((ROOT / "configs/deploy.json").read_text())["pixdim"] == brain.pixdim


def test_folder_alone_segments_with_its_codes_at_its_voxel_size(folder, scan, tmp_path):
    labels, record = segmented(scan, tmp_path / "a", model=str(folder))
    assert labels.shape == SHAPE
    assert set(np.unique(labels)) <= set(CODES)
    assert record["model"]["task"] == "made"
    assert record["model"]["differences"] == []
    segmenter = Segmenter(output_dir=str(tmp_path), model=str(folder), **FAST)
    assert segmenter.parser.get_parsed_content("pixdim") == [1.0, 1.0, 1.0]
    assert [type(step).__name__ for step in segmenter.preprocessing.transforms][-1] == "ScaleIntensityRangePercentilesd"


def test_folder_elsewhere_zipped_and_read_only_gives_the_same_labels(folder, scan, tmp_path):
    wanted, _ = segmented(scan, tmp_path / "a", model=str(folder))
    moved = shutil.copytree(folder, tmp_path / "another place" / "$name")
    for path in (*moved.iterdir(), moved):
        path.chmod(0o555 if path.is_dir() else 0o444)
    archive = zipped(folder, tmp_path / "model.zip")
    archive.chmod(0o444)
    for number, model in enumerate((moved, archive, zipped(folder, tmp_path / "flat.zip", ""))):
        found, record = segmented(scan, tmp_path / str(number), model=str(model))
        assert (found == wanted).all()
        assert record["model"]["task"] == "made"
    moved.chmod(0o755)
    assert sorted(os.listdir(moved)) == ["labels.tsv", "model.json", "model.pt"]


def test_weights_of_a_folder_are_of_its_model(folder, scan, tmp_path):
    """Where ``checkpoint`` alone is given, as ``scripts.segment --checkpoint RUN/model.pt`` does."""
    own = write_folder(tmp_path / "own", pixdim=[1.5, 1.5, 1.5])
    segmenter = Segmenter(output_dir=str(tmp_path), checkpoint=str(own / "model.pt"), **FAST)
    assert segmenter.parser.get_parsed_content("pixdim") == [1.5, 1.5, 1.5]
    assert [label.code for label in read_labels(segmenter.label_table)] == list(CODES)
    with pytest.raises(RuntimeError) as raised:
        Segmenter(output_dir=str(tmp_path), model=str(folder), checkpoint=str(own / "model.pt"), **FAST)
    cause = raised.value.__cause__
    assert isinstance(cause, OptionError)
    assert str(cause).startswith(f"checkpoint: found weights of the model {own}; those of {folder}, or")


def test_weights_without_a_folder_are_used_with_a_warning(folder, tmp_path):
    shutil.copy(folder / "model.pt", tmp_path / "mine.pt")
    with pytest.warns(BundleWarning, match=r"mine\.pt: no model\.json beside it; taken for weights of made, at 1 x"):
        model = find_model(folder, tmp_path / "mine.pt", folder)
    assert (model.own, model.held_out) == (False, None)


def test_another_voxel_size_is_a_warning_in_the_result(folder, scan, tmp_path):
    with pytest.warns(BundleWarning, match="pixdim: 2 x 2 x 2 mm, the model made is of 1 x 1 x 1 mm"):
        _, record = segmented(scan, tmp_path, model=str(folder), pixdim=[2.0, 2.0, 2.0])
    assert record["model"]["differences"] == ["pixdim: 2 x 2 x 2 mm, the model made is of 1 x 1 x 1 mm"]


def test_label_table_of_another_model_is_refused(folder, tmp_path):
    with pytest.raises(RuntimeError) as raised:
        Segmenter(output_dir=str(tmp_path), model=str(folder), label_table="configs/labels.tsv", **FAST)
    assert "label_table: found the codes 0, 2, 3, 4" in str(raised.value.__cause__)
    assert "those of the model made are wanted, 0, 3, 7" in str(raised.value.__cause__)


def test_voxel_size_of_two_edges_is_refused(folder, tmp_path):
    with pytest.raises(RuntimeError) as raised:
        Segmenter(output_dir=str(tmp_path), model=str(folder), pixdim=[1.0, 1.0], **FAST)
    assert str(root_cause(raised.value)) == "pixdim: found [1.0, 1.0]; 3 edges in mm are wanted"


def test_fixed_limits_scale_intensities(scan, tmp_path):
    model = write_folder(tmp_path / "ct", normalisation={"kind": "range", "lower": 20.0, "upper": 60.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error", BundleWarning)
        image = Segmenter(output_dir=str(tmp_path), model=str(model), **FAST).preprocessing({"image": str(scan)})[
            "image"
        ]
    stored = np.sort(nib.load(scan).get_fdata(dtype=np.float32).ravel())
    np.testing.assert_allclose(np.sort(np.asarray(image).ravel()), np.clip((stored - 20) / 40, 0, 1), atol=1e-5)


def test_preprocessing_of_its_own_wants_its_config(tmp_path):
    model = write_folder(tmp_path / "own", normalisation={"kind": "own"})
    with pytest.raises(RuntimeError) as raised:
        Segmenter(output_dir=str(tmp_path), model=str(model), **FAST)
    message = str(root_cause(raised.value))
    assert message.startswith(f"{model / 'model.json'}: describes preprocessing of the training's own; the config")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"pixdim": ["$__import__('os').system('true')"] * 3}, "pixdim"),
        ({"network_def": {"_target_": "os.system", "command": "true"}}, "network_def"),
        ({"network_def": {"_target_": "networks.TransformerUNet", "hidden_size": "$1+1"}}, "network_def"),
        ({"task": "$bad"}, "task"),
        ({"orientation": "LPS"}, "orientation"),
        ({"model_version": 2}, "model_version"),
        ({"more": 1}, "content"),
    ],
)
def test_what_is_no_description_is_refused_by_field(folder, tmp_path, changes, field):
    shutil.copytree(folder, tmp_path / "bad")
    path = tmp_path / "bad" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(InputError) as raised:
        read_model(tmp_path / "bad")
    assert str(raised.value).startswith(f"{path}: found {field}")
    assert "\n" not in str(raised.value)


def test_no_class_but_a_network_is_built(folder, tmp_path):
    content = description(network_def={"_target_": "networks.SABlock", "hidden_size": 8, "num_heads": 2})
    write_folder(tmp_path / "other")
    (tmp_path / "other/model.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"found the network networks\.SABlock; one of networks\.TransformerUNet"):
        build_network(read_model(tmp_path / "other"))
    (tmp_path / "other/model.json").write_text(json.dumps(description(network_def=None)))
    with pytest.raises(InputError, match="describes no network of this bundle"):
        build_network(read_model(tmp_path / "other"))


def test_changes_that_compute_something_else_are_warned_of(folder):
    model = read_model(folder)
    with pytest.warns(BundleWarning, match="network_def: attention pooled, the model made is of another"):
        build_network(model, attention="pooled")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_network(model, attention="global", use_combined_linear=False, use_flash_attention=False)
        build_network(model, channels=list(model.content["network_def"]["channels"]), out_channels=3)


def test_codes_that_the_table_does_not_have_are_refused(tmp_path):
    folder = write_folder(tmp_path / "other")
    content = json.loads((folder / "model.json").read_text())
    content["labels"]["codes"] = [0, 3, 8]
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"says the codes 0, 3, 8; those of labels\.tsv are wanted, 0, 3, 7"):
        read_model(folder)


def test_replaced_weights_are_refused(tmp_path):
    folder = write_folder(tmp_path / "one")
    torch.save(torch.load(write_folder(tmp_path / "two", seed=1) / "model.pt", weights_only=True), folder / "model.pt")
    with pytest.raises(WeightsError, match="found SHA-256"):
        load_weights(build_network(read_model(folder)), folder / "model.pt")


def test_unfinished_training_is_named(tmp_path):
    folder = write_folder(tmp_path / "run")
    (folder / "model.pt").rename(folder / "model_best.pt")
    with pytest.raises(MissingError, match=r"model\.pt: not found; the weights of a training that is over.*best\.pt"):
        weights_file(folder)
    with pytest.raises(MissingError, match="no such folder or zip; the folder of a model"):
        weights_file(tmp_path / "none")


def test_zip_writes_nowhere_but_in_its_folder_and_holds_one_model(folder, tmp_path):
    evil = tmp_path / "evil.zip"
    with zipfile.ZipFile(evil, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"../../{file.name}")
        archive.writestr("../../escaped.txt", "out")
        archive.writestr("/tmp/escaped.txt", "out")
    model = find_model(evil)
    assert sorted(path.name for path in model.folder.iterdir()) == ["labels.tsv", "model.json", "model.pt"]
    assert not (tmp_path.parent / "escaped.txt").exists()
    with zipfile.ZipFile(evil, "a") as archive:
        archive.writestr("second/model.json", "{}")
    with pytest.raises(InputError, match=r"found 2 files model\.json; a zip of one model's folder is wanted"):
        find_model(evil)
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(InputError, match=r"text\.zip: cannot be read as a zip"):
        find_model(tmp_path / "text.zip")


def test_overlay_alone_lies_over_the_inference_config(tmp_path):
    segmenter = Segmenter("configs/hippocampus.json", output_dir=str(tmp_path), **FAST)
    assert segmenter.model_record["task"] == "hippocampus"
    assert [label.name for label in read_labels(segmenter.label_table)][1:] == ["Anterior", "Posterior"]


def test_segment_takes_a_model(run_main, folder, scan, tmp_path):
    given = ("--output-dir", tmp_path, "--engine", "torch", "--precision", "float32")
    done = run_main("scripts.segment", scan, "--model", folder, *given)
    assert (done.returncode, done.stderr) == (0, "")
    done = run_main("scripts.segment", scan, "--model", tmp_path / "none", *given, "--overwrite")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'none'}: no such folder or zip; ")
    assert done.stderr.count("\n") == 1
