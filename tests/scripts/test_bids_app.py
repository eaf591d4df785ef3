"""scripts.bids_app: BIDS in, a valid BIDS derivative out."""

from __future__ import annotations

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from bundle.bids.validation import find_validator, validation_errors
from bundle.datasets import read_dataset
from bundle.provenance import sha256
from tests.bundle.bids.made import BROKEN, T2W, place, write_bids_set
from tests.bundle.cohort.made import options
from tests.labelled import NAMES

pytest.importorskip("ancpbids")


@pytest.fixture(scope="module")
def first(run_main, tmp_path_factory):
    """A data set with its derivative: its folder, which nobody may change, names of its images, and how it ended."""
    folder = tmp_path_factory.mktemp("bids_app")
    names = write_bids_set(folder / "set")
    return folder, names, app(run_main, folder, folder, "participant")


def app(run_main, folder, models, level, *more):
    arguments = [folder / "set", folder / "set/derivatives/labels", level, "--workers", "0", *options(models)]
    return run_main("scripts.bids_app", *arguments, *more)


@pytest.fixture
def again(first, run_main, tmp_path):
    """Run over a copy of all of it."""
    shutil.copytree(first[0] / "set", tmp_path / "set")
    return lambda level, *more: app(run_main, tmp_path, first[0], level, *more)


def label_map(root, name):
    return root / "set/derivatives/labels" / place(name.replace("_T1w", "_desc-aseg_dseg"))


def test_every_sound_image_gets_labels_and_the_broken_one_a_line(first):
    folder, names, done = first
    assert done.returncode == 1
    assert [line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("error")] == [
        str(folder / "set" / place(BROKEN))
    ]
    written = {path.name for path in (folder / "set/derivatives/labels").rglob("sub-*_dseg.nii.gz")}
    assert written == {label_map(folder, name).name for name in names if name != BROKEN}
    assert not [path for path in (folder / "set/derivatives").rglob("*") if T2W in path.name]


def test_images_of_another_contrast_say_in_whose_space_their_labels_are(first, again, tmp_path):
    done = again("participant", "--suffix", "T1w", "T2w")
    assert done.returncode == 1  # the broken T1w
    labels = tmp_path / "set/derivatives/labels" / place(T2W.replace("_T2w", "_space-T2w_desc-aseg_dseg"))
    sidecar = json.loads(labels.with_name(labels.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["Sources"] == [f"bids:raw:{place(T2W)}"]
    assert np.array_equal(nib.load(labels).affine, nib.load(tmp_path / "set" / place(T2W)).affine)
    assert label_map(tmp_path, first[1][0]).is_file()
    if find_validator():
        assert not validation_errors(tmp_path / "set/derivatives/labels", find_validator())
    refused = again("participant", "--suffix", "bold")
    assert refused.returncode == 2
    assert "invalid choice: 'bold'" in refused.stderr


def test_label_map_lies_on_the_grid_of_its_image_and_sidecar_and_volumes_say_so(first):
    folder, names, _ = first
    path = label_map(folder, names[2])
    labels, image = nib.load(path), nib.load(folder / "set" / place(names[2]))
    assert np.array_equal(labels.affine, image.affine)
    sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["Sources"] == [f"bids:raw:{place(names[2])}"]
    description = json.loads((folder / "set/derivatives/labels/dataset_description.json").read_text())
    assert (description["DatasetType"], description["DatasetLinks"]) == ("derivative", {"raw": "../.."})
    with open(path.with_name(path.name.replace("dseg.nii.gz", "morph.tsv")), newline="") as file:
        volumes = {int(row["index"]): float(row["volume_mm3"]) for row in csv.DictReader(file, delimiter="\t")}
    counts = dict(zip(*np.unique(np.asarray(labels.dataobj), return_counts=True), strict=True))
    assert volumes == {code: counts.get(code, 0) for code in NAMES if code}


@pytest.mark.skipif(find_validator() is None, reason="bids-validator-deno is not installed")
def test_derivative_passes_the_validator_of_bids(first):
    folder = first[0]
    assert validation_errors(folder / "set/derivatives/labels", find_validator()) == []
    assert validation_errors(folder / "set", find_validator()) == []


@pytest.mark.skipif(find_validator() is None, reason="bids-validator-deno is not installed")
def test_data_set_with_errors_is_refused_unless_validation_is_skipped(again, tmp_path):
    (tmp_path / "set/sub-01/ses-a/anat/sub-01_ses-b_bold.nii.gz").write_bytes(b"")
    done = again("participant", "--participant-label", "01", "--session-label", "a")
    assert done.returncode == 2
    assert "sub-01_ses-b_bold.nii.gz" in done.stderr
    done = again("participant", "--participant-label", "01", "--session-label", "a", "--skip-bids-validation")
    assert (done.returncode, "1 skipped" in done.stdout) == (0, True)


def test_corrected_label_map_is_kept_and_a_lost_one_comes_back(first, again, tmp_path):
    corrected, lost = (label_map(tmp_path, name) for name in first[1][:2])
    corrected.write_bytes(b"corrected by hand")
    lost.unlink()
    done = again("participant", "--skip-bids-validation")
    assert f"{corrected}: was changed since it was written" in done.stderr
    assert corrected.read_bytes() == b"corrected by hand"
    assert sha256(lost) == sha256(label_map(first[0], first[1][1]))


def test_group_writes_the_tables_of_all(first, again, tmp_path):
    folder = tmp_path / "set/derivatives/labels/cohort"
    for path in folder.glob("cohort*"):
        path.unlink()
    done = again("group")
    assert done.returncode == 1
    with open(folder / "cohort.tsv", newline="") as file:
        status = {row["id"]: row["status"] for row in csv.DictReader(file, delimiter="\t")}
    assert status == {name: "failed" if name == BROKEN else "skipped" for name in first[1]}
    with open(folder / "cohort_participants.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert (rows[2]["participant_id"], rows[2]["session_id"]) == ("sub-02", "ses-a")


def test_pages_are_linked_from_one_of_each_participant_and_the_set_stays_valid(first, again, tmp_path):
    done = again("group", "--pages")
    assert done.returncode == 1  # for the broken image
    root = tmp_path / "set/derivatives/labels"
    assert sorted(path.name for path in root.glob("*.html")) == ["sub-01.html", "sub-02.html", "sub-03.html"]
    for name in first[1]:
        page, link = (root / f"{name.split('_')[0]}.html").read_text(), f"cohort/{name}/{name}.html"
        assert (f'href="./{link}"' in page) == (root / link).is_file() == (name != BROKEN)
        assert name in page
    assert 'href="./cohort/index.html"' in page
    assert (root / "cohort/index.html").is_file()
    if find_validator():
        assert validation_errors(root, find_validator()) == []
    done = again("participant", "--participant-label", "01", "--pages", "--skip-bids-validation")
    assert (done.returncode, "group, once all have ended, is wanted" in done.stderr) == (2, True)


def test_results_are_labels_to_train_on_and_to_score_against(first, run_main, tmp_path):
    folder, names, _ = first
    shutil.copytree(folder / "set", tmp_path / "set")
    (tmp_path / "set" / place(BROKEN)).unlink()
    cases = read_dataset(tmp_path / "set").cases
    assert {case.image.name: case.label for case in cases} == {
        f"{name}.nii.gz": label_map(tmp_path, name) for name in names if name != BROKEN
    }
    sound = {name.removesuffix("_T1w") for name in names if name != BROKEN}
    for number, folder in enumerate(("derivatives/labels/cohort", "derivatives/labels")):
        scores = tmp_path / f"scores{number}"
        done = run_main("scripts.evaluate", tmp_path / "set" / folder, tmp_path / "set", "--output-dir", scores)
        assert (done.returncode, done.stderr) == (0, "")
        with open(scores / "scores.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["dice"]]
        assert {row["case"] for row in rows} == sound
        assert {float(row["dice"]) for row in rows} == {1.0}


def test_results_inside_the_data_set_belong_under_derivatives(run_main, first):
    done = run_main("scripts.bids_app", first[0] / "set", first[0] / "set/out", "participant", *options(first[0]))
    assert (done.returncode, "lies in the data set" in done.stderr) == (2, True)
