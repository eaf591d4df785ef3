"""The bundle and its TorchScript archive, used as the programs use them that read MONAI bundles."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, onnx_export
from monai.data import MetaTensor
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from bundle.forms import write_torchscript
from bundle.inference.segmenter import Segmenter
from bundle.io import load_weights
from bundle.labels import read_labels
from bundle.model import build_network, read_model
from tests.conftest import MEDIUM, ROOT

PROGRAMS = Path(__file__).parent
EXACT = {"device": "cpu", "engine": "torch", "precision": "float32", "pixdim": MEDIUM}
STOCK = {"largest_component": []}
"""Without what configs/inference.json has over stock transforms: on a coarse grid, 1 % of labels are loose pieces."""
CODES = [label.code for label in read_labels()]


def read_json(name: str) -> dict:
    return json.loads((ROOT / name).read_text())


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def agreement(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the share of equal voxels where either label map has a structure."""
    assert found.shape == wanted.shape
    labelled = (found > 0) | (wanted > 0)
    return float((found == wanted)[labelled].mean())


@pytest.fixture(autouse=True)
def _from_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def network():
    return load_weights(build_network(read_model(ROOT / "models")), ROOT / "models/model.pt")


@pytest.fixture(scope="module")
def archive(network, tmp_path_factory):
    """The archive of the shipped weights, whose config asks for a coarse grid."""
    path = tmp_path_factory.mktemp("archive") / "model.ts"
    config = read_json("configs/deploy.json") | {"pixdim": MEDIUM}
    write_torchscript(network, path, read_json("configs/metadata.json"), config)
    return path


@pytest.fixture(scope="module")
def segment(tmp_path_factory):
    """Give the label map of a scan by configs/inference.json, on the same coarse grid."""

    def run(scan, **options):
        folder = tmp_path_factory.mktemp("labels")
        segmenter = Segmenter(
            ROOT / "configs/inference.json", bundle_root=str(ROOT), output_dir=str(folder), **EXACT, **options
        )
        return voxels(segmenter.segment(scan).label_map)

    return run


@pytest.fixture(scope="module")
def turned_scan(small_scan, tmp_path_factory):
    """The small scan with its axes in another order and direction."""
    image = nib.load(small_scan)
    path = tmp_path_factory.mktemp("turned") / "turned.nii.gz"
    image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt("PSR"))).to_filename(path)
    return path


@pytest.fixture(scope="module")
def turned_labels(turned_scan, segment):
    return segment(turned_scan)


def test_deploy_config_needs_no_code_of_the_bundle():
    text = (ROOT / "configs/deploy.json").read_text()
    targets = re.findall(r'"_target_": "([^"]+)"', text)
    assert "SlidingWindowInferer" in targets
    assert [target for target in targets if "." in target] == []
    assert re.findall(r"\b(bundle|networks|scripts)\.", text) == []


def test_deploy_config_keeps_step_with_the_inference_config():
    deploy, inference = read_json("configs/deploy.json"), read_json("configs/inference.json")
    assert deploy["label_codes"] == CODES
    model = read_model(ROOT / "models")
    assert deploy["pixdim"] == model.pixdim
    steps, wanted = (config["preprocessing"]["transforms"] for config in (deploy, inference))
    others = ("ScaleIntensityRanged", "bundle.inference.ScaleIntensitiesd", "bundle.inference.PlaceBackgroundd")
    wanted = [step for step in wanted if step["_target_"] not in others]  # their rules change odd scans alone
    for step in wanted:  # which of them are done, and with which numbers, the model says
        step.pop("_disabled_", None)
        for name in ("lower", "upper", "margin"):
            if name in step:
                step[name] = {**model.normalisation, **model.foreground_crop}[name]
        if "select_fn" in step:
            step["select_fn"] = f"$lambda image: image > {model.foreground_crop['threshold']}"
    assert [step.pop("reader") for step in wanted if "reader" in step] == ["@reader"], "the bundle's own"
    # Spacingd can be inverted, and MONAI Label needs the other; float32 halves the memory of the way back.
    resample = next(step for step in wanted if step["_target_"] == "Lambdad")
    resample |= {**resample.pop("func"), "_target_": "Spacingd", "dtype": "float32"}
    assert steps == wanted


def test_deploy_config_has_the_inference_properties(archive):
    options = {"checkpoint": str(archive), "datalist": ["a.nii.gz"]}
    workflow = ConfigWorkflow("configs/deploy.json", logging_file=False, workflow_type="infer", **options)
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.slow
def test_deploy_config_alone_gives_the_labels_of_the_inference_config(
    run_elsewhere, archive, small_scan, segment, tmp_path
):
    run_elsewhere(
        tmp_path, "monai.bundle", "run", "--config_file", ROOT / "configs/deploy.json", "--checkpoint", archive,
        "--datalist", [str(small_scan)], "--output_dir", tmp_path / "out", "--device", "cpu", "--pixdim", MEDIUM,
    )  # fmt: skip
    written = tmp_path / "out/small/small_seg.nii.gz"
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [written]
    labels = nib.load(written)
    assert labels.get_data_dtype() == np.int16
    np.testing.assert_allclose(labels.affine, nib.load(small_scan).affine, atol=1e-6)
    assert set(np.unique(voxels(written))) == set(CODES)
    assert agreement(voxels(written), segment(small_scan, **STOCK)) > 0.9999


@pytest.mark.slow
def test_deploy_app_sdk_segments_a_dicom_volume_with_the_archive_alone(
    run_elsewhere, archive, turned_scan, segment, tmp_path
):
    run_elsewhere(tmp_path, PROGRAMS / "deploy_app_sdk.py", archive, turned_scan, tmp_path / "labels.npy")
    assert agreement(np.load(tmp_path / "labels.npy"), segment(turned_scan, **STOCK)) > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_deploy_app_sdk_segments_a_dicom_volume_with_a_bundles_folder(
    run_elsewhere, turned_scan, turned_labels, precision, tmp_path
):
    folder = tmp_path / "bundle"
    (folder / "models").mkdir(parents=True)
    for name in ("bundle", "networks", "models/model.pt", "models/model.json", "models/labels.tsv"):
        (folder / name).symlink_to(ROOT / name)  # without an archive, which the operator would take first
    shutil.copytree(ROOT / "configs", folder / "configs")
    config = read_json("configs/inference.json") | {"pixdim": MEDIUM, "precision": precision, "device": "cpu"}
    (folder / "configs/inference.json").write_text(json.dumps(config))
    run_elsewhere(tmp_path, PROGRAMS / "deploy_app_sdk.py", folder, turned_scan, tmp_path / "labels.npy")
    found = np.load(tmp_path / "labels.npy")
    assert set(np.unique(found)) <= set(range(len(CODES))), "channels, as channel_def names them"
    assert agreement(np.asarray(CODES)[found], turned_labels) > (0.9999 if precision == "float32" else 0.99)
    assert not (folder / "output").exists()


def test_deploy_app_sdk_knows_what_loads_and_saves_by_its_name():
    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    parser["output_dir"] = "out"
    load, *_ = parser.get_parsed_content("preprocessing").transforms
    *_, save, values = parser.get_parsed_content("postprocessing").transforms
    assert "LoadImage" in type(load).__name__
    assert "SaveImage" in type(save).__name__
    assert "Image" not in type(values).__name__


def test_deploy_config_refuses_a_volume_without_geometry():
    workflow = ConfigWorkflow("configs/deploy.json", logging_file=False, workflow_type="infer")
    ensure, *_ = workflow.parser.get_parsed_content("preprocessing").transforms[1:]
    with pytest.raises(ValueError, match="Unknown original_channel_dim"):
        ensure({"image": MetaTensor.ensure_torch_and_prune_meta(np.zeros((8, 8, 8)), {})})


@pytest.mark.slow
def test_monai_label_segments_request_after_request_and_writes_nothing(
    run_elsewhere, turned_scan, turned_labels, tmp_path
):
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("bundle", "configs", "models", "networks"):
        (folder / name).symlink_to(ROOT / name)
    run_elsewhere(tmp_path, PROGRAMS / "monai_label.py", folder, turned_scan, turned_scan, tmp_path / "labels.npy")
    first, second = np.load(tmp_path / "labels.npy")
    assert agreement(np.asarray(CODES)[first], turned_labels) > 0.999
    np.testing.assert_array_equal(first, second)
    assert not (folder / "output").exists()


def test_names_for_monai_label_follow_the_codes():
    names = read_json("configs/metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert list(names.values()) == [label.name for label in read_labels()]
    assert sorted(CODES) == CODES, "segments are named in the order of their values"


@pytest.mark.slow
def test_slicer_runs_the_inference_config_and_finds_the_label_map(run_elsewhere, small_scan, tmp_path):
    result = tmp_path / "work" / "result.nii.gz"
    run_elsewhere(tmp_path, PROGRAMS / "slicer_auto3dseg.py", ROOT, small_scan, result, path=[ROOT])
    assert {0, 2, 3, 41, 42} <= set(np.unique(voxels(result))) <= set(CODES)


def test_overrides_of_slicer_on_the_command_line(tiny_scan, tmp_path, monkeypatch):
    arguments = [
        "run", "--config_file", "configs/inference.json", "--datalist", [str(tiny_scan)],
        "--dataset_dir", tiny_scan.parent, "--output_dir", tmp_path, "--device", "cpu", "--inferer#device", "cpu",
        "--dataloader#num_workers", 0, "--pixdim", [12.0] * 3, "--precision", "float32", "--logging_file", False,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["monai.bundle", *map(str, arguments)])
    runpy.run_module("monai.bundle", run_name="__main__")
    assert (tmp_path / "tiny" / "tiny_seg.nii.gz").is_file()


@pytest.mark.parametrize(("spelling", "reaches"), [("dataloader#num_workers", True), ("dataloader.num_workers", False)])
def test_only_the_hash_reaches_into_a_part_of_the_config(spelling, reaches):
    options = {"datalist": ["a.nii.gz"], spelling: 3}
    workflow = ConfigWorkflow("configs/inference.json", logging_file=False, workflow_type="infer", **options)
    assert workflow.parser["dataloader"]["num_workers"] == (3 if reaches else 0)


@pytest.mark.slow
def test_monai_onnx_export_gives_the_eager_logits(network, tmp_path):
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    import onnxruntime

    shape = [1, 1, 32, 40, 24]
    onnx_export(
        net_id="network_def", filepath=str(tmp_path / "model.onnx"), ckpt_file="models/model.pt",
        meta_file="configs/metadata.json", config_file="configs/inference.json", input_shape=shape,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    image = torch.rand(shape)
    (logits,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, network(image).numpy(), atol=1e-3)


@pytest.mark.slow
def test_example_with_bare_torch_finds_the_same_structures(
    run_elsewhere, archive, turned_scan, turned_labels, tmp_path
):
    run_elsewhere(tmp_path, ROOT / "examples/torchscript_labels.py", archive, turned_scan, tmp_path / "labels.nii.gz")
    labels, scan = nib.load(tmp_path / "labels.nii.gz"), nib.load(turned_scan)
    assert nib.aff2axcodes(labels.affine) == ("R", "A", "S")
    assert labels.get_data_dtype() == np.int16
    back = labels.as_reoriented(ornt_transform(io_orientation(labels.affine), io_orientation(scan.affine)))
    np.testing.assert_allclose(back.affine, scan.affine, atol=1e-5)
    assert agreement(np.asarray(back.dataobj), turned_labels) > 0.9
