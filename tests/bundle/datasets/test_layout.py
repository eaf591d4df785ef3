"""Data sets found in the layouts that people keep them in."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from bundle.datasets import check_dataset, find_pairs, list_cases, read_dataset
from bundle.errors import DatasetError, InputError, MissingError
from bundle.io.label_table import write_labels
from bundle.labels import make_labels
from tests.labelled import (
    LAYOUTS,
    NAMES,
    write_bids,
    write_dataset_json,
    write_msd,
    write_nifti,
    write_nnunet,
    write_pair,
    write_side_by_side,
)


def names_by_code(dataset):
    return {label.code: label.name for label in dataset.table}


def test_msd_dataset_gives_cases_labels_and_modality(tmp_path):
    names = write_msd(tmp_path)
    write_dataset_json(tmp_path, names[::-1])
    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == names
    assert dataset.cases[2].image.samefile(tmp_path / "imagesTr" / f"{names[2]}.nii.gz")
    assert dataset.cases[2].label.samefile(tmp_path / "labelsTr" / f"{names[2]}.nii.gz")
    assert names_by_code(dataset) == NAMES
    assert [label.channel for label in dataset.table] == [0, 1, 2]
    assert dataset.modality == "MRI"
    assert check_dataset(dataset) == []


def test_nnunet_dataset_without_a_list_is_paired_by_name(tmp_path):
    names = write_nnunet(tmp_path)
    (tmp_path / "imagesTr" / "._case_00_0000.nii.gz").write_text("left by another system")
    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == names
    assert names_by_code(dataset) == NAMES
    assert dataset.modality == "T1"
    assert check_dataset(dataset) == []


def test_plain_folders_take_their_labels_from_the_files(tmp_path):
    names = write_msd(tmp_path)
    (tmp_path / "dataset.json").unlink()
    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == names
    assert names_by_code(dataset) == {0: "Background", 3: "label-3", 7: "label-7"}
    assert check_dataset(dataset) == []


@pytest.mark.parametrize("named", [None, "labels.tsv", "dseg.tsv"])
def test_files_side_by_side_take_their_labels_from_a_table_beside_them_or_from_the_files(tmp_path, named):
    names = write_side_by_side(tmp_path)
    (tmp_path / f"._{names[0]}_T1.nii.gz").write_text("left by another system")
    write_nifti(tmp_path / "other_labels.nii.gz", np.ones((4, 4, 4), dtype=np.uint8))
    if named == "labels.tsv":
        write_labels(make_labels(NAMES), tmp_path / named)
    elif named:
        (tmp_path / named).write_text("index\tname\n" + "".join(f"{code}\t{name}\n" for code, name in NAMES.items()))
    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == names
    assert dataset.cases[1].image == tmp_path / f"{names[1]}_T1.nii.gz"
    assert dataset.cases[1].label == tmp_path / f"{names[1]}_labels.nii.gz"
    assert names_by_code(dataset) == (NAMES if named else {0: "Background", 3: "label-3", 7: "label-7"})
    assert check_dataset(dataset) == []


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_cases_are_listed_in_every_layout_without_opening_a_volume_or_a_table(tmp_path, write):
    write(tmp_path)
    dataset = read_dataset(tmp_path)
    for path in (path for case in dataset.cases for path in (case.image, case.label)):
        path.write_bytes(b"no volume")
    for table in [*tmp_path.glob("*dseg.tsv"), *tmp_path.glob("labels.tsv")]:
        table.write_text("no table")
    assert list_cases(tmp_path) == list(dataset.cases)
    assert find_pairs(tmp_path) == [{"image": str(case.image), "label": str(case.label)} for case in dataset.cases]
    assert len(dataset.cases) == (5 if write is write_bids else 6)


def test_results_beside_the_files_are_no_subjects(tmp_path):
    write_pair(tmp_path / "sub-01_T1.nii.gz", tmp_path / "sub-01_labels.nii.gz", 1)
    (tmp_path / "sub-01_T1").mkdir()
    assert [case.name for case in list_cases(tmp_path)] == ["sub-01"]


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_list_of_cases_names_the_missing_file(tmp_path, write):
    write(tmp_path)
    label = read_dataset(tmp_path).cases[2].label
    label.unlink()
    with pytest.raises(MissingError, match="no such file; every image needs its labels") as caught:
        list_cases(tmp_path)
    assert caught.value.path.name == label.name


def test_list_of_cases_is_refused_where_the_listing_has_a_problem(tmp_path):
    write_bids(tmp_path)
    other = tmp_path / "derivatives/automatic/sub-03/anat/sub-03_dseg.nii.gz"
    write_nifti(other, np.ones((4, 4, 4), dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"found 1 problem, .*sub-03_T1w.nii.gz: found 2 label files"):
        list_cases(tmp_path)


@pytest.mark.parametrize("derivatives", [True, False])
def test_bids_dataset_is_paired_by_subject_and_session(tmp_path, derivatives):
    write_bids(tmp_path, derivatives)
    dataset = read_dataset(tmp_path)
    assert len(dataset.cases) == 5
    by_name = {case.name: case for case in dataset.cases}
    case = by_name["sub-02_ses-a_T1w"]
    assert case.subject == "sub-02"
    assert case.image == tmp_path / "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz"
    root = tmp_path / "derivatives/manual" if derivatives else tmp_path
    assert case.label == root / "sub-02/ses-a/anat/sub-02_ses-a_dseg.nii.gz"
    assert by_name["sub-03_T1w"].label == root / "sub-03/anat/sub-03_dseg.nii.gz"
    assert names_by_code(dataset) == NAMES
    assert check_dataset(dataset) == []


def test_bids_entities_tell_runs_and_spaces_apart(tmp_path):
    anat = tmp_path / "sub-01/anat"
    for run in (1, 2):
        write_pair(anat / f"sub-01_run-{run}_T1w.nii.gz", anat / f"sub-01_run-{run}_dseg.nii.gz", run)
        shutil.copy(anat / "sub-01_run-1_dseg.nii.gz", anat / f"sub-01_run-{run}_space-MNI152_dseg.nii.gz")
    dataset = read_dataset(tmp_path)
    assert [case.label.name for case in dataset.cases] == ["sub-01_run-1_dseg.nii.gz", "sub-01_run-2_dseg.nii.gz"]
    assert check_dataset(dataset) == []


def test_bids_label_beside_the_image_wins_and_names_may_be_derived(tmp_path):
    write_bids(tmp_path)
    beside = tmp_path / "sub-03/anat/sub-03_dseg.nii.gz"
    shutil.copy(tmp_path / "derivatives/manual/sub-03/anat/sub-03_dseg.nii.gz", beside)
    (tmp_path / "dseg.tsv").rename(tmp_path / "derivatives/manual/desc-manual_dseg.tsv")
    dataset = read_dataset(tmp_path)
    assert dataset.cases[-1].label == beside
    assert names_by_code(dataset) == NAMES
    assert dataset.problems == []


def test_bids_problems_of_the_listing_are_named(tmp_path):
    write_bids(tmp_path)
    derived = tmp_path / "derivatives/manual"
    other = tmp_path / "derivatives/automatic/sub-03/anat/sub-03_dseg.nii.gz"
    other.parent.mkdir(parents=True)
    shutil.copy(derived / "sub-03/anat/sub-03_dseg.nii.gz", other)
    orphan = derived / "sub-04/anat/sub-04_dseg.nii.gz"
    write_nifti(orphan, np.ones((4, 4, 4), dtype=np.uint8))
    (derived / "sub-01/ses-b/anat/sub-01_ses-b_dseg.nii.gz").unlink()
    problems = [str(problem) for problem in check_dataset(read_dataset(tmp_path))]
    assert len(problems) == 3
    assert "sub-03_T1w.nii.gz: found 2 label files" in problems[0]
    assert problems[1].startswith(f"{orphan}: found labels without an image")
    assert problems[2].startswith(f"{tmp_path}/sub-01/ses-b/anat/sub-01_ses-b_dseg.nii.gz: no such file")


def test_problems_of_a_dataset_json_are_collected(tmp_path):
    names = write_msd(tmp_path)
    entries = [{"image": f"imagesTr/{names[0]}.nii.gz", "label": f"labelsTr/{names[0]}.nii.gz"}]
    entries += [{"image": f"imagesTr/{names[1]}.nii.gz"}, names[2]]
    write_dataset_json(tmp_path, [], training=entries, modality={"0": "T1", "1": "T2"}, labels={"a": [1, 2]})
    problems = [str(problem) for problem in check_dataset(read_dataset(tmp_path))]
    assert len(problems) == 4
    assert "found 2 modalities (T1, T2); one is wanted" in problems[0]
    assert "as training entry 1; an object with an image and a label is wanted" in problems[1]
    assert "as training entry 2" in problems[2]
    assert "one code and one name for each is wanted" in problems[3]
    assert all(problem.startswith(f"{tmp_path}/dataset.json: ") for problem in problems)


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_folder_that_is_no_dataset_is_refused_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(InputError, match="wanted"):
        read_dataset(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_dataset(tmp_path / "none")
