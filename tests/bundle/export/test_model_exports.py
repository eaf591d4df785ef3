"""An exported model carries its own codes, names, voxel size and metadata, whichever model it is."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from jsonschema import Draft7Validator

from bundle.errors import InputError
from bundle.export import read_json
from bundle.export.contents import deploy_config, metadata_of
from bundle.model import read_model
from tests.conftest import ROOT, SHARED_DATA
from tests.labelled import CODES, write_pair
from tests.model_folder import write_folder
from tests.threads import one_thread

DEPLOY, METADATA = (read_json(ROOT / "configs" / name) for name in ("deploy.json", "metadata.json"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    place = tmp_path_factory.mktemp("scan")
    write_pair(place / "case.nii.gz", place / "labels.nii.gz", 0)
    return place / "case.nii.gz"


@pytest.fixture(scope="module")
def exported(run_main, scan, tmp_path_factory):
    """A model of three codes at 2 mm, and the folder of its TorchScript archive."""
    folder = write_folder(tmp_path_factory.mktemp("models") / "made", pixdim=[2.0, 2.0, 2.0])
    out = folder.parent / "exported"
    given = ("--model", folder, "--forms", "torchscript", "--scans", scan, "--output-dir", out)
    done = run_main("scripts.export", *given)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, out


def archive_content(path):
    extra = {"inference.json": "", "metadata.json": ""}
    torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    return [json.loads(text) for text in extra.values()]


def test_archive_and_sidecar_are_of_the_folder(exported):
    _, out = exported
    config, metadata = archive_content(out / "model.ts")
    sidecar = json.loads((out / "model.ts.json").read_text())
    assert config["label_codes"] == sidecar["codes"] == list(CODES)
    assert config["pixdim"] == sidecar["input"]["voxel_size_mm"] == [2.0, 2.0, 2.0]
    assert sidecar["names"] == ["background", "Inner", "Outer"]
    assert (sidecar["task"], sidecar["model"], metadata["name"]) == ("made", "made", "made")
    output = metadata["network_data_format"]["outputs"]["pred"]
    assert (output["num_channels"], list(output["channel_def"].values())) == (3, sidecar["names"])
    assert "CropForegroundd" not in json.dumps(config)
    assert "Left-" not in json.dumps([config, metadata])
    assert sidecar["parity"][0]["image"] == "case.nii.gz"


def test_bare_torch_gives_the_codes_of_the_model(host, exported, scan, tmp_path):
    given = (exported[1] / "model.ts", scan, tmp_path / "labels.nii.gz")
    done = host.run("torchscript_labels", *given, folder=tmp_path, path=[ROOT / "examples"])
    assert done.returncode == 0, done.stderr
    found = np.asarray(nib.load(tmp_path / "labels.nii.gz").dataobj)
    assert set(np.unique(found)) <= set(CODES)
    assert len(np.unique(found)) > 1


def test_exported_folder_is_a_model_too(exported, scan, run_main, tmp_path):
    folder, out = exported
    read_model(out)
    labels = []
    for number, given in enumerate((("--model", folder), ("--model", out), ("--checkpoint", out / "model.ts"))):
        options = ("--output-dir", tmp_path / str(number), "--precision", "float32")
        done = run_main("scripts.segment", scan, *given, *options)
        assert (done.returncode, done.stderr) == (0, "")
        labels.append(np.asarray(nib.load(tmp_path / str(number) / "case/case_seg.nii.gz").dataobj))
    assert (labels[1] == labels[0]).mean() > 0.99  # of untrained weights, with ties
    assert (labels[2] == labels[1]).all()


def test_folder_of_another_model_is_refused(exported, run_main, scan, tmp_path):
    other = write_folder(tmp_path / "other", task="other")
    given = ("--forms", "torchscript", "--scans", scan, "--output-dir")
    done = run_main("scripts.export", "--model", other, *given, exported[1])
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {exported[1] / 'model.json'}: is of the model made; another output folder is wanted\n"
    )
    (other / "model.pt").rename(tmp_path / "alone.pt")
    done = run_main("scripts.export", "--checkpoint", tmp_path / "alone.pt", *given[:-1])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_model_of_less_than_heads_wants_a_scan_of_its_own_kind(run_main, tmp_path):
    folder = write_folder(tmp_path / "made")
    done = run_main("scripts.export", "--model", folder, "--forms", "torchscript", "--output-dir", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == (
        "error: scans: none, and the model made is not for whole heads, as the sample is; "
        "a scan of its own kind is wanted, which the exports are checked on\n"
    )
    assert not (tmp_path / "out").exists()


def test_brain_is_exported_with_the_configs_as_they_stand():
    brain = read_model(ROOT / "models")
    assert deploy_config(DEPLOY, brain, brain.pixdim, brain.table) == DEPLOY
    assert metadata_of(METADATA, brain, brain.table) == METADATA


@pytest.mark.parametrize("name", ["models/hippocampus", "made"])
def test_metadata_is_what_monai_wants(name, tmp_path):
    schema = SHARED_DATA / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("MONAI's schema of metadata is not here; metadata.json says where it is")
    model = read_model(write_folder(tmp_path / "made") if name == "made" else ROOT / name)
    metadata = metadata_of(METADATA, model, model.table)
    Draft7Validator(json.loads(schema.read_text())).validate(metadata)
    assert metadata["version"] == METADATA["version"]


def test_fixed_limits_are_in_the_config(tmp_path):
    scaling = {"kind": "range", "lower": -100.0, "upper": 240.0}
    model = read_model(write_folder(tmp_path / "ct", normalisation=scaling))
    config = deploy_config(DEPLOY, model, model.pixdim, model.table)
    (step,) = (step for step in config["preprocessing"]["transforms"] if "Scale" in step["_target_"])
    assert (step["_target_"], step["a_min"], step["a_max"]) == ("ScaleIntensityRanged", -100.0, 240.0)
    assert (step["b_min"], step["b_max"], step["clip"]) == (0.0, 1.0, True)
    model = read_model(write_folder(tmp_path / "own", normalisation={"kind": "own"}))
    with pytest.raises(InputError, match="preprocessing of the training's own"):
        deploy_config(DEPLOY, model, model.pixdim, model.table)
