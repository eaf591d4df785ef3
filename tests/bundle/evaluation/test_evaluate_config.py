"""configs/evaluate.json over configs/inference.json, run by MONAI."""

from __future__ import annotations

import json
import re
import traceback

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import create_workflow, run
from monai.metrics import DiceMetric

from networks import TransformerUNet
from scripts.evaluate import main
from tests.conftest import ROOT
from tests.phantom import SPACING, phantom_codes

CONFIGS = ["configs/inference.json", "configs/evaluate.json"]
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])
TINY = {"channels": [4, 8, 8], "hidden_size": 24, "mlp_dim": 24, "num_layers": 1, "num_heads": 2}
REPORT = ["dice.png", "scores.csv", "summary.json"]
COARSE = {"pixdim": [SPACING] * 3, "roi_size": [64, 72, 64], "device": "cpu", "precision": "float32"}


def everything(error):
    """Return the messages of an error and of those that led to it."""
    return " ".join(traceback.format_exception(error))


def write_pair(folder, name, codes, intensities):
    folder.mkdir(exist_ok=True)
    image = intensities + np.random.default_rng(1).normal(0, 2, codes.shape)
    nib.Nifti1Image(image.astype(np.float32), AFFINE).to_filename(folder / f"{name}_T1.nii.gz")
    nib.Nifti1Image(codes.astype(np.int16), AFFINE).to_filename(folder / f"{name}_labels.nii.gz")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two phantoms with T1-like intensities; code 255 hides a slab of the labels."""
    folder = tmp_path_factory.mktemp("pairs")
    for number in (1, 2):
        codes = phantom_codes(0.03 * number)
        grey = {0: 0, 511: 80, 515: 10, 24: 15, 3: 60, 42: 60, 2: 100, 41: 100, 4: 15, 43: 15, 10: 75, 49: 75, 16: 95}
        intensities = np.vectorize(grey.get)(codes).astype(float)
        codes[np.isin(codes, (511, 515))] = 0
        codes[:, :30] = np.where(codes[:, :30] > 0, 255, 0)
        write_pair(folder, f"p{number}", codes, intensities)
    return folder


@pytest.fixture(scope="module")
def evaluated(pairs, host):
    options = {"config_file": CONFIGS, "dataset_dir": pairs, "output_dir": pairs / "out", **COARSE}
    done = host.run("monai.bundle", "run", *(part for name, value in options.items() for part in (f"--{name}", value)))
    return pairs, done


def test_pipeline_writes_segmentations_and_report(evaluated):
    folder, done = evaluated
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in (folder / "out").iterdir()) == [*REPORT[:1], "p1_T1", "p2_T1", *REPORT[1:]]
    record = json.loads((folder / "out/summary.json").read_text())
    assert record["cases"] == ["p1", "p2"]
    assert (record["ignored_codes"], record["unscored_codes"]) == ([255], [24])
    assert record["unknown_codes"] == {"prediction": []}
    assert record["counts"]["structures"] == 31
    assert 0 < record["overall"]["dice"]["mean"] < 1


def test_report_is_the_one_of_the_command_line(evaluated, capsys):
    folder, _ = evaluated
    options = ["--ignore", "255", "--unscored", "24", "--output-dir", str(folder / "again")]
    assert main([str(folder / "out"), str(folder), *options]) == 0, capsys.readouterr().err
    for name in ("scores.csv", "dice.png"):
        assert (folder / "again" / name).read_bytes() == (folder / "out" / name).read_bytes()
    first, second = (json.loads((folder / kind / "summary.json").read_text()) for kind in ("out", "again"))
    assert first["structures"] == second["structures"]
    assert first["overall"] == second["overall"]


def test_key_metric_is_monais_dice_where_all_structures_are_on_both_sides(evaluated):
    folder, done = evaluated
    logged = re.search(r"Key metric: val_mean_dice best value: ([0-9.]+)", done.stdout + done.stderr)
    record = json.loads((folder / "out/summary.json").read_text())
    assert float(logged[1]) == pytest.approx(record["overall"]["dice"]["mean"])
    for name in ("p1", "p2"):
        reference = torch.from_numpy(np.asarray(nib.load(folder / f"{name}_labels.nii.gz").dataobj).astype(np.int32))
        predicted = nib.load(folder / "out" / f"{name}_T1" / f"{name}_T1_seg.nii.gz")
        predicted = torch.from_numpy(np.asarray(predicted.dataobj).astype(np.int32))
        predicted[reference == 255], reference[reference == 255] = 0, 0
        scores = (folder / "out/scores.csv").read_text().splitlines()
        for code in (2, 41, 3, 42):
            metric = DiceMetric(include_background=True)
            metric((predicted == code)[None, None], (reference == code)[None, None])
            row = next(line for line in scores if line.startswith(f"prediction,{name},{code},"))
            assert float(row.split(",")[4]) == pytest.approx(metric.aggregate().item(), abs=1e-5)


def test_existing_report_stops_the_run_before_it_starts(evaluated, tmp_path, monkeypatch):
    (tmp_path / "summary.json").write_text("mine")
    monkeypatch.chdir(ROOT)
    with pytest.raises(RuntimeError) as caught:
        run(config_file=CONFIGS, dataset_dir=str(evaluated[0]), output_dir=str(tmp_path), logging_file=False)
    assert "summary.json: exists already" in everything(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_further_overlay_swaps_the_task(tmp_path, monkeypatch):
    """Another label table, a datalist in another place, and labels that no rule for names would find."""
    (tmp_path / "labels.tsv").write_text(
        "channel\tcode\tname\tred\tgreen\tblue\n0\t0\tBackground\t0\t0\t0\n"
        "1\t1\tAnterior\t200\t60\t60\n2\t2\tPosterior\t60\t60\t200\n"
    )
    torch.manual_seed(0)
    torch.save(TransformerUNet(1, 3, **TINY).state_dict(), tmp_path / "tiny.pt")
    overlay = {
        "label_table": str(tmp_path / "labels.tsv"),
        "checkpoint": str(tmp_path / "tiny.pt"),
        **{f"network_def#{name}": value for name, value in TINY.items()},
    }
    (tmp_path / "task.json").write_text(json.dumps(overlay))
    rng = np.random.default_rng(0)
    write_pair(tmp_path / "data", "h", rng.integers(0, 3, (24, 32, 26)), rng.normal(50, 20, (24, 32, 26)))
    monkeypatch.chdir(ROOT)
    run(
        config_file=[*CONFIGS, str(tmp_path / "task.json")],
        dataset_dir=str(tmp_path / "data"),
        datalist=[{"image": "h_T1.nii.gz", "label": "h_labels.nii.gz"}],
        output_dir=str(tmp_path / "out"),
        logging_file=False,
        **COARSE,
    )
    record = json.loads((tmp_path / "out/summary.json").read_text())
    assert list(record["structures"]) == ["Anterior", "Posterior"]
    assert record["cases"] == ["h"]
    assert record["structures"]["Anterior"]["dice"]["count"] == 1


def test_labels_on_another_grid_stop_the_run_before_it_starts(tmp_path, monkeypatch):
    codes = phantom_codes()
    write_pair(tmp_path, "a", codes, codes)
    nib.Nifti1Image(codes[:-1].astype(np.int16), AFFINE).to_filename(tmp_path / "a_labels.nii.gz")
    monkeypatch.chdir(ROOT)
    with pytest.raises(RuntimeError) as caught:
        run(config_file=CONFIGS, dataset_dir=str(tmp_path), output_dir=str(tmp_path / "out"), logging_file=False)
    assert "a_T1.nii.gz: found shape (64, 72, 60) against (63, 72, 60)" in everything(caught.value)
    assert not (tmp_path / "out").exists()


def test_all_inference_properties_still_exist(monkeypatch, tmp_path):
    codes = phantom_codes()
    write_pair(tmp_path, "a", codes, codes)
    monkeypatch.chdir(ROOT)
    workflow = create_workflow(config_file=CONFIGS, workflow_type="infer", dataset_dir=str(tmp_path))
    assert workflow.check_properties() == []
