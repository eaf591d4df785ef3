"""``python -m scripts.evaluate``: one run in a process of its own, the others in this one."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.stats import wilcoxon

from scripts.evaluate import main
from tests.phantom import SPACING, phantom_codes

AFFINE = np.diag([SPACING, SPACING, 1.5 * SPACING, 1.0])
NAMES = ("1000", "1007", "1015")
FILES = ["dice.png", "scores.csv", "summary.json"]


def write(path: Path, codes: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(codes.astype(np.int16), affine).to_filename(path)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """References beside their scans, and two sets of predictions: an output tree, and flat files that are worse."""
    root = tmp_path_factory.mktemp("sets")
    for step, name in enumerate(NAMES, start=1):
        codes = phantom_codes(0.02 * step)
        codes[(codes == 511) | (codes == 515)] = 0
        marked = codes.copy()
        marked[:, :3] = 255
        write(root / "ref" / f"{name}_labels.nii.gz", marked)
        write(root / "ref" / f"{name}_T1.nii.gz", np.arange(codes.size).reshape(codes.shape) % 30000)
        write(root / "tree" / f"{name}_T1" / f"{name}_T1_seg.nii.gz", np.roll(codes, 1, 0))
        (root / "tree" / f"{name}_T1" / f"{name}_T1_volumes.tsv").write_text("code\n")
        write(root / "flat" / f"{name}.nii", np.roll(codes, 2 + step, 1))
    return root


@pytest.fixture(scope="module")
def compared(host, folders):
    return host.run(
        "scripts.evaluate", folders / "tree", folders / "ref", "--ignore", 255, "--unscored", 24, "--compare",
        folders / "flat", "--output-dir", folders / "out", "--seed", 3,
    )  # fmt: skip


def read_scores(path: Path) -> dict[tuple[str, str, int], dict[str, str]]:
    with open(path, newline="") as file:
        return {(row["set"], row["case"], int(row["code"])): row for row in csv.DictReader(file)}


def test_table_is_printed_and_files_are_written(compared, folders):
    assert compared.returncode == 0, compared.stderr
    lines = compared.stdout.splitlines()
    assert lines[0] == str(folders / "tree")
    assert lines[1].startswith("structure")
    record = json.loads((folders / "out/summary.json").read_text())
    thalamus = record["structures"]["Left-Thalamus"]["dice"]
    printed = f"{thalamus['mean']:.3f} [{thalamus['low']:.3f}, {thalamus['high']:.3f}]"
    assert any(line.startswith("Left-Thalamus") and printed in line for line in lines)
    assert any(line.startswith("left and right mixed up: ") for line in lines)
    assert sorted(path.name for path in (folders / "out").iterdir()) == sorted(FILES)
    assert record["cases"] == list(NAMES)
    assert (record["ignored_codes"], record["unscored_codes"], record["bootstrap"]["seed"]) == ([255], [24], 3)
    assert record["unknown_codes"] == {"prediction": [], "compared": []}


def test_scores_are_those_of_the_voxels(compared, folders):
    assert compared.returncode == 0, compared.stderr
    scores = read_scores(folders / "out/scores.csv")
    assert len(scores) == 2 * 3 * 31
    for name in NAMES:
        reference = np.asarray(nib.load(folders / "ref" / f"{name}_labels.nii.gz").dataobj)
        predicted = np.asarray(nib.load(folders / "tree" / f"{name}_T1" / f"{name}_T1_seg.nii.gz").dataobj)
        counted = reference != 255
        for code in (2, 3, 42, 10, 16):
            a, b = (predicted == code) & counted, (reference == code) & counted
            row = scores["prediction", name, code]
            assert float(row["dice"]) == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), rel=1e-5)
            assert float(row["reference_mm3"]) == pytest.approx(b.sum() * 1.5 * SPACING**3, rel=1e-5)
            assert float(row["volume_error_percent"]) == pytest.approx(100 * (a.sum() / b.sum() - 1), abs=1e-3)


def test_comparison_is_the_paired_test_of_the_case_means(compared, folders):
    scores = read_scores(folders / "out/scores.csv")
    means = {
        side: [
            np.mean([float(row["dice"]) for key, row in scores.items() if key[:2] == (side, name) and row["dice"]])
            for name in NAMES
        ]
        for side in ("prediction", "compared")
    }
    found = json.loads((folders / "out/summary.json").read_text())["comparison"]["dice"]["overall"]
    assert found["mean"] == pytest.approx(np.mean(means["prediction"]) - np.mean(means["compared"]), abs=1e-5)
    assert found["mean"] > 0
    assert found["p_value"] == pytest.approx(wilcoxon(means["prediction"], means["compared"]).pvalue)
    assert "with 3 cases p cannot go below 0.25" in compared.stdout
    names = folders / "tree", folders / "flat"
    assert f"dice: {names[0]} minus {names[1]}; above 0, {names[0]} is better" in compared.stdout
    assert f"hd95_mm: {names[0]} minus {names[1]}; below 0, {names[0]} is better" in compared.stdout
    assert all(f"\n{name}\n" in f"\n{compared.stdout}" for name in names)  # a table of each


def test_existing_results_are_kept_unless_overwriting(compared, folders, tmp_path, capsys):
    assert compared.returncode == 0, compared.stderr
    shutil.copytree(folders / "out", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    arguments = [str(folders / "flat"), str(folders / "ref"), "--output-dir", str(tmp_path / "out")]
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert output.err.startswith("error: ")
    assert "scores.csv: exists already" in output.err
    assert output.out == ""
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert main([*arguments, "--overwrite"]) == 0
    assert "warning: codes 255 of references: not in the label table, counted as background" in capsys.readouterr().err
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in after)


@pytest.mark.parametrize("option", ["--label-table", "--labels"])
def test_two_files_with_the_labels_of_a_dataset(tmp_path, capsys, option):
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}')
    codes = np.random.default_rng(0).integers(0, 3, (6, 7, 8))
    files = [str(write(tmp_path / name, codes)) for name in ("p.nii.gz", "r.nii.gz")]
    assert main([*files, option, str(tmp_path / "dataset.json")]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[:3] for line in printed.splitlines()[1:3]] == [
        ["Anterior", "1", "1.000"], ["Posterior", "1", "1.000"],
    ]  # fmt: skip
    assert "mixed up" not in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "p.nii.gz", "r.nii.gz"]


def other_grid(root: Path, codes: np.ndarray) -> tuple[Path, Path]:
    moved = AFFINE.copy()
    moved[2, 3] = 1
    write(root / "p" / "a.nii.gz", codes[:-1])
    write(root / "p" / "b.nii.gz", codes, moved)
    return root / "p", root / "r"


def image_for_labels(root: Path, codes: np.ndarray) -> tuple[Path, Path]:
    write(root / "p" / "a.nii.gz", np.arange(codes.size).reshape(codes.shape) % 30000)
    write(root / "p" / "b.nii.gz", codes)
    return root / "p", root / "r"


def unpaired(root: Path, codes: np.ndarray) -> tuple[Path, Path]:
    write(root / "p" / "a.nii.gz", codes)
    write(root / "p" / "c.nii.gz", codes)
    return root / "p", root / "r"


def damaged(root: Path, codes: np.ndarray) -> tuple[Path, Path]:
    write(root / "p" / "a.nii.gz", codes)
    path = write(root / "p" / "b.nii.gz", codes)
    path.write_bytes(path.read_bytes()[:600])
    return root / "p", root / "r"


def missing(root: Path, codes: np.ndarray) -> tuple[Path, Path]:
    return root / "p", root / "r"


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (other_grid, [["p/a.nii.gz", "r/a_labels.nii.gz", "shape"], ["p/b.nii.gz", "r/b_labels.nii.gz", "affine"]]),
        (image_for_labels, [["p/a.nii.gz", "codes that the table does not know"]]),
        (unpaired, [["c.nii.gz", "without a reference", "b_labels.nii.gz", "without a prediction"]]),
        (damaged, [["b.nii.gz", "complete NIfTI file"]]),
        (missing, [["p: no such file or folder"]]),
    ],
)
def test_what_cannot_be_scored_is_one_line_for_each_and_leaves_nothing(tmp_path, capsys, spoil, names):
    codes = phantom_codes()[::4, ::4, ::4]
    for name in "ab":
        write(tmp_path / "r" / f"{name}_labels.nii.gz", codes)
    assert main([*map(str, spoil(tmp_path, codes)), "--output-dir", str(tmp_path / "out")]) == 1
    output = capsys.readouterr()
    errors = output.err.splitlines()
    assert output.out == ""
    assert len(errors) == len(names), output.err
    for line, parts in zip(errors, names, strict=True):
        assert line.startswith("error: ")
        assert all(part in line for part in parts), line
    assert not (tmp_path / "out").exists()


def test_help_of_the_program_lists_its_options(run_module):
    done = run_module("scripts.evaluate", "--help")
    assert done.returncode == 0
    assert "--unscored" in done.stdout
