"""Several models as one: the mean of their probabilities, and refused where they are not alike."""

from __future__ import annotations

import json
import shutil
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from bundle import segment
from bundle.engines import load_network
from bundle.engines.ensemble import EnsembleNetwork
from bundle.errors import BundleError, BundleWarning, OptionError, root_cause
from bundle.inference.segmenter import Segmenter
from bundle.io import load_weights
from bundle.model import build_network, find_model, read_model
from bundle.provenance import sha256
from tests.conftest import ROOT
from tests.labelled import write_msd, write_pair
from tests.model_folder import write_folder
from tests.threads import one_thread

FAST = {"engine": "torch", "precision": "float32", "device": "cpu"}
SCHEMA = Draft202012Validator(json.loads((ROOT / "configs/record.schema.json").read_text()))
SPLIT = {"fold": 0, "num_folds": 2, "train": ["a", "b"], "val": ["c", "d"]}


@pytest.fixture(autouse=True)
def _from_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    return [write_folder(place / f"fold_{seed}", seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    place = tmp_path_factory.mktemp("scan")
    write_pair(place / "case.nii.gz", place / "labels.nii.gz", 0)
    return place / "case.nii.gz"


def codes(path):
    return np.asarray(nib.load(path).dataobj)


def record_of(label_map):
    return json.loads(label_map.with_name(label_map.name.replace("_seg.nii.gz", "_record.json")).read_text())


def mean_of_softmax(folders, image):
    """Average what the networks give one by one, in float64."""
    networks = [load_weights(build_network(model), model.weights).eval() for model in map(read_model, folders)]
    with torch.no_grad():
        return torch.stack([network(image).double().softmax(dim=1) for network in networks]).mean(dim=0)


@pytest.mark.parametrize("numbers", [(0, 1), (0, 1, 1), (1,)])
def test_probabilities_are_the_mean_of_those_of_the_networks(numbers, folders):
    chosen = [str(folders[number]) for number in numbers]
    model = find_model(chosen)
    network = load_network(build_network(model), [member.weights for member in model.members], **FAST)
    image = torch.rand(2, 1, 24, 16, 32, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        found = network(image)
    expected = mean_of_softmax(chosen, image)
    assert expected.std() > 0.01
    torch.testing.assert_close(found.double().softmax(dim=1), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.double().exp(), expected, atol=1e-6, rtol=0)


def test_a_certain_network_keeps_logits_finite():
    class Certain(torch.nn.Module):
        engine = precision = "float32"

        def forward(self, image):
            return torch.stack([image * 0 + 500, image * 0 - 500], dim=1)[:, :, 0]

    found = EnsembleNetwork([Certain(), Certain()])(torch.zeros(1, 1, 2, 2, 2))
    assert torch.isfinite(found).all()
    assert (found[:, 0] == 0).all()


def test_a_network_twice_gives_the_labels_of_the_network(folders, scan, tmp_path):
    alone = Segmenter(output_dir=str(tmp_path / "a"), model=str(folders[0]), **FAST).segment(scan)
    twice = Segmenter(output_dir=str(tmp_path / "b"), model=[str(folders[0])] * 2, **FAST).segment(scan)
    assert np.unique(codes(alone.label_map)).size > 1
    assert alone.label_map.read_bytes() == twice.label_map.read_bytes()


def test_labels_of_two_are_those_of_the_mean_and_the_record_names_both(folders, scan, run_main, tmp_path):
    models = [part for folder in folders for part in ("--model", folder)]
    done = run_main("scripts.segment", scan, *models, "--precision", "float32", "--output-dir", tmp_path / "program")
    assert done.returncode == 0, done.stderr
    label_map = tmp_path / "program" / "case" / "case_seg.nii.gz"
    segmenter = Segmenter(output_dir=str(tmp_path), model=[str(folder) for folder in folders], **FAST)
    data = segmenter.preprocessing({"image": str(scan)})
    mean = mean_of_softmax(folders, data["image"].as_tensor()[None])[0]
    expected = segmenter.labels(data, mean.log().float())
    np.testing.assert_array_equal(codes(label_map), expected)
    single = Segmenter(output_dir=str(tmp_path / "one"), model=str(folders[0]), **FAST).segment(scan)
    assert (codes(single.label_map) != expected).any()
    record = record_of(label_map)
    SCHEMA.validate(record)
    assert record["weights"] == {f"{n}/model.pt": sha256(folder / "model.pt") for n, folder in enumerate(folders, 1)}
    assert [member["sha256"] for member in record["model"]["members"]] == [
        sha256(folder / "model.json") for folder in folders
    ]
    assert record["computation"]["engine"] == "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BundleWarning)
        result = segment(scan, model=folders, precision="float32", device="cpu")
    np.testing.assert_array_equal(np.asarray(result.image.dataobj), expected)


def test_monai_segments_and_scores_with_a_list_of_models(folders, host, tmp_path):
    """The overlay for scores goes over the config of the inference, so that both are run here."""
    write_msd(tmp_path / "data", cases=2)
    names, configs = str([str(folder) for folder in folders]), "['configs/inference.json','configs/evaluate.json']"
    done = host.run(
        *("monai.bundle", "run", "--config_file", configs, "--model", names, "--dataset_dir", tmp_path / "data"),
        *("--output_dir", tmp_path / "monai", "--precision", "float32"),
    )
    assert done.returncode == 0, done.stderr
    scan = tmp_path / "data/imagesTr/case_01.nii.gz"
    segmenter = Segmenter(output_dir=str(tmp_path), model=[str(folder) for folder in folders], **FAST)
    label_map = tmp_path / "monai/case_01/case_01_seg.nii.gz"
    assert label_map.read_bytes() == segmenter.segment(scan).label_map.read_bytes()
    summary = json.loads((tmp_path / "monai/summary.json").read_text())
    assert len(summary["sources"]["checkpoint"].split(",")) == 2
    assert sorted(record_of(label_map)["weights"]) == ["1/model.pt", "2/model.pt"]


def test_a_zip_may_be_a_member(folders, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "zip"), "zip", folders[1])
    assert find_model([folders[0], archive]).members[1].content == read_model(folders[1]).content


DIFFERENT = {
    "pixdim": ({"pixdim": [1.0, 1.0, 1.5]}, r"found pixdim \[1.0, 1.0, 1.5\] in .*other and \[1.0, 1.0, 1.0\] in "),
    "intensities": (
        {"normalisation": {"kind": "percentiles", "lower": 1.0, "upper": 99.0}},
        "found normalisation .*'lower': 1.0.* in .*other and .*'lower': 0.5",
    ),
    "windows": ({"roi_size": [16, 16, 16]}, r"found roi_size \[16, 16, 16\]"),
    "labels": ({"labels": {"ignore": [3]}}, r"found labels.ignore \[3\] in .*other and \[\] in "),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_models_that_differ_are_refused_in_a_line_that_names_what_does(what, folders, tmp_path):
    changes, message = DIFFERENT[what]
    other = write_folder(tmp_path / "other", **changes)
    with pytest.raises(OptionError, match=f"^model: {message}") as caught:
        find_model([folders[0], other])
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match=r"^model: found"):
        segment(np.random.default_rng(0).random((9, 9, 9)), affine=np.eye(4), model=[folders[0], other])


def test_weights_beside_several_models_are_refused(folders, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        Segmenter(
            output_dir=str(tmp_path), model=[str(folder) for folder in folders], checkpoint=str(folders[0] / "model.pt")
        )
    assert str(root_cause(caught.value)).startswith("checkpoint: found 1 for 2 models")
    with pytest.raises(OptionError, match="checkpoint: found 2 files for one model"):
        find_model(folders[0], [folders[0] / "model.pt"] * 2)
    with pytest.raises(OptionError, match="model: found an empty list"):
        find_model([])


def test_held_out_are_the_cases_that_no_member_saw(tmp_path):
    splits = [SPLIT, {**SPLIT, "fold": 1, "train": ["a", "d"], "val": ["b", "c"]}]
    members = [write_folder(tmp_path / f"{split['fold']}", split=split) for split in splits]
    model = find_model(members)
    assert model.held_out == ["c"]
    assert model.trained_on == ["a", "b", "d"]
    assert find_model([*members, write_folder(tmp_path / "unknown", split=None)]).held_out is None


def test_scores_of_cases_that_a_member_was_trained_on_are_warned_of(run_main, tmp_path):
    names = write_msd(tmp_path / "data", cases=4)
    splits = [
        {**SPLIT, "train": names[:2], "val": names[2:]},
        {**SPLIT, "fold": 1, "train": names[2:], "val": names[:2]},
    ]
    models = [write_folder(tmp_path / f"{split['fold']}", split=split) for split in splits]
    labels = tmp_path / "data/labelsTr"
    done = run_main("scripts.evaluate", labels, labels, "--model", models[0], "--model", models[1])
    assert done.returncode == 0
    assert "warning: 4 of 4 cases were seen in the training of" in done.stderr
    done = run_main("scripts.evaluate", labels, labels, "--model", models[0])
    assert done.stdout.startswith("2 of 4 cases are scored")
    assert done.stderr == ""


def test_an_ensemble_is_not_exported(folders, run_main, tmp_path):
    config = tmp_path / "both.json"
    config.write_text(json.dumps(json.loads((ROOT / "configs/inference.json").read_text()) | {
        "model": [str(folder) for folder in folders]
    }))  # fmt: skip
    done = run_main("scripts.export", "--forms", "torchscript", "--config", config, "--output-dir", tmp_path / "out")
    assert done.returncode == 1
    assert "model: found 2 models; one is wanted" in done.stderr
