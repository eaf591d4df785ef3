"""From a data set to a model that is exported, without a path to a config of the bundle."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from PIL import Image

from bundle.datasets import compute_statistics, read_dataset
from bundle.datasets.plan import WINDOW_VOXELS, fitted, plan_training
from bundle.errors import OptionError
from bundle.model import read_model
from scripts.command import OWN_DATA, read_value
from scripts.train import read_ids
from tests.bundle.training.own_training import NETWORK_OPTIONS
from tests.conftest import ROOT
from tests.labelled import CODES, write_msd, write_nifti
from tests.threads import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_msd(folder)
    return folder


def test_plan_follows_from_the_images_and_says_why(data):
    dataset = read_dataset(data)
    plan = plan_training(dataset, compute_statistics(dataset), "made")
    assert plan.ids["pixdim"] == [1.0, 1.0, 1.0]
    assert plan.ids["window"] == plan.ids["roi_size"] == [16, 16, 16]  # images of 14 x 16 x 12
    assert plan.ids["network_def#position_grid"] == [2, 2, 2]
    assert (plan.ids["num_folds"], plan.ids["batch_size"]) == (3, 8)
    assert plan.ids["epoch_length"] == 1  # 4 cases in one step
    assert set(plan.ids) - {"task", "val_interval"} <= set(plan.reasons)
    known = ConfigParser.load_config_files(OWN_DATA)
    assert all(name.split("#")[0] in known for name in plan.ids)


@pytest.mark.parametrize(
    ("shape", "voxels", "wanted"),
    [((35, 50, 36), WINDOW_VOXELS, [40, 56, 40]), ((512, 512, 300), 8**3, [8, 8, 8]), ((3, 8, 9), 10**6, [8, 8, 16])],
)
def test_windows_are_multiples_of_eight_within_the_budget(shape, voxels, wanted):
    assert fitted(shape, voxels) == wanted
    assert np.prod(fitted(shape, voxels)) <= voxels


def test_units_of_ct_are_kept(data, tmp_path):
    write_msd(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(content | {"modality": {"0": "CT"}}))
    dataset = read_dataset(tmp_path)
    statistics = compute_statistics(dataset)
    plan = plan_training(dataset, statistics, "ct")
    (step,) = (value for name, value in plan.ids.items() if name.startswith("preprocessing"))
    assert step["_target_"] == "ScaleIntensityRanged"
    assert step["a_min"] == statistics.foreground.percentiles["0.5"]
    known = ConfigParser.load_config_files(OWN_DATA)
    replaced = known["preprocessing"]["transforms"][4]
    assert replaced["_target_"].startswith("ScaleIntensity"), "the place of the transform that the plan replaces"


def test_seven_commands_lead_from_a_data_set_to_an_archive(data, run_main, tmp_path):
    def done(name, *arguments):
        result = run_main(f"scripts.{name}", *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    overlay, run = tmp_path / "made.json", tmp_path / "run"
    done("check_dataset", data)
    assert f"python -m scripts.train {overlay}" in done("new_task", data, "--output", overlay, "--no-timing")
    content = json.loads(overlay.read_text())
    assert content["plan"]["pixdim"]
    network = [part for key, value in NETWORK_OPTIONS.items() for part in (f"--{key}", value) if "grid" not in key]
    options = ["--output-dir", run, "--fold", 1, "--max_epochs", 1, "--epoch-length", 2, "--init_checkpoint", ""]
    parser = ConfigParser(ConfigParser.load_config_files([*OWN_DATA, str(overlay)]))
    parser["fold"] = 1
    assert parser.get_parsed_content("output_dir") == f"{ROOT}/runs/made/fold_1"
    done("train", overlay, *options, *network, "--warmup_steps", 1, "--num_workers", 0)
    assert Image.open(run / "training_curve.png").size > (500, 500)
    model = read_model(run)
    assert (model.task, model.content["split"]["num_folds"]) == ("made", 3)
    scan = data / "imagesTr" / f"{model.held_out[0]}.nii.gz"
    done("segment", scan, "--model", run, "--output-dir", tmp_path / "out")
    found = np.asarray(nib.load(tmp_path / f"out/{model.held_out[0]}/{model.held_out[0]}_seg.nii.gz").dataobj)
    assert set(np.unique(found)) <= set(CODES)
    assert "Inner" in done("evaluate", tmp_path / "out", data / "labelsTr", "--model", run, "--partial")
    done("export", "--model", run, "--forms", "torchscript", "--scans", scan)
    assert json.loads((run / "model.ts.json").read_text())["codes"] == list(CODES)


def test_problems_and_files_that_are_there_end_it(data, run_main, tmp_path):
    (tmp_path / "there.json").write_text("mine")
    done = run_main("scripts.new_task", data, "--output", tmp_path / "there.json", "--no-timing")
    assert (done.returncode, (tmp_path / "there.json").read_text()) == (1, "mine")
    write_msd(tmp_path / "bad", 2)
    write_nifti(tmp_path / "bad/labelsTr/case_00.nii.gz", np.zeros((14, 16, 12), np.uint8))
    done = run_main("scripts.new_task", tmp_path / "bad", "--output", tmp_path / "bad.json", "--no-timing")
    assert done.returncode == 1
    assert "found no labelled voxel" in done.stdout
    assert not (tmp_path / "bad.json").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("false", False), ("False", False), ("null", None), ("1e-3", 0.001), ("[1, 2]", [1, 2]),
        ('{"a": [true, null]}', {"a": [True, None]}), ("{'a': (1, 2)}", {"a": (1, 2)}),
        ("all", "all"), ("NaN", "NaN"), ("[1, x]", "[1, x]"),
    ],
)  # fmt: skip
def test_values_are_read_as_python_or_json_has_them(text, value):
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)


def test_ids_of_a_training_are_read_as_monai_reads_them(run_main, tmp_path):
    assert read_ids(["--fold", "all", "--pixdim=[1, 2, 3]", "--restart", "True", "--train#loss#lambda_ce", "0.5"]) == {
        "fold": "all", "pixdim": [1, 2, 3], "restart": True, "train#loss#lambda_ce": 0.5,
    }  # fmt: skip
    for wrong in (["fold"], ["--fold"], ["--fold", "0", "1"]):
        with pytest.raises(OptionError, match="found no id with a value"):
            read_ids(wrong)
    done = run_main("scripts.train", tmp_path / "none.json")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'none.json'}: no such file; an overlay is wanted")
