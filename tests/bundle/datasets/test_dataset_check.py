"""The check lists everything that is wrong with a data set, all at once."""

from __future__ import annotations

import logging
import re

import nibabel as nib
import numpy as np
import pytest

from bundle.datasets import check_dataset, prepare_dataset, read_dataset
from bundle.errors import DatasetError
from tests.conftest import SHARED_DATA
from tests.labelled import SHAPE, affine_of, make_pair, write_dataset_json, write_msd, write_nifti, write_pair


def _missing_label(image, label, seed):
    label.unlink()


def _missing_image(image, label, seed):
    image.unlink()


def _truncated_image(image, label, seed):
    image.write_bytes(image.read_bytes()[:2000])


def _label_is_text(image, label, seed):
    label.write_text("patient: none\n")


def _two_dimensional_image(image, label, seed):
    write_nifti(image, np.ones((20, 20), dtype=np.float32))


def _four_dimensional_label(image, label, seed):
    write_nifti(label, np.ones((*SHAPE, 2), dtype=np.uint8))


def _shape_mismatch(image, label, seed):
    write_nifti(label, make_pair(seed)[1][:-1])


def _affine_mismatch(image, label, seed):
    write_nifti(label, make_pair(seed)[1], affine_of(origin=2.0))


def _nan_image(image, label, seed):
    data = make_pair(seed)[0]
    data[1, 2, 3] = np.nan
    data[1, 2, 4] = np.inf
    write_nifti(image, data)


def _constant_image(image, label, seed):
    write_nifti(image, np.full(SHAPE, 5, dtype=np.float32))


def _fractions(image, label, seed):
    data = make_pair(seed)[1].astype(np.float32)
    data[7, 8, 6] = 2.5
    write_nifti(label, data)


def _unknown_code(image, label, seed):
    data = make_pair(seed)[1].astype(np.int16)
    data[0, 0, :2] = [9, -4]
    write_nifti(label, data)


def _empty_label(image, label, seed):
    write_nifti(label, np.zeros(SHAPE, dtype=np.uint8))


def _no_affine(image, label, seed):
    volume = nib.Nifti1Image(make_pair(seed)[0], None)
    volume.header.set_sform(None, 0)
    volume.header.set_qform(None, 0)
    volume.to_filename(image)


def _odd_spacing(image, label, seed):
    write_pair(image, label, seed, affine_of(8.0))


def _too_fine(image, label, seed):
    write_pair(image, label, seed, affine_of(0.001))


def _copy_of_the_first(image, label, seed):
    write_pair(image, label, 0)


FAULTS = {
    _missing_label: [("label", "no such file")],
    _missing_image: [("image", "no such file")],
    _truncated_image: [("image", "a complete NIfTI file is wanted")],
    _label_is_text: [("label", "a NIfTI file, .nii or .nii.gz, is wanted|truncated gzip")],
    _two_dimensional_image: [("image", r"found shape \(20, 20\)")],
    _four_dimensional_label: [("label", r"found shape \(14, 16, 12, 2\)")],
    _shape_mismatch: [("label", r"found shape \(13, 16, 12\) against \(14, 16, 12\)")],
    _affine_mismatch: [("label", "affine that puts a corner 3.46 mm away")],
    _nan_image: [("image", "found 2 voxels that are NaN or Inf")],
    _constant_image: [("image", "found the value 5 in every voxel")],
    _fractions: [("label", r"found labels that are no whole numbers \(2.5\)")],
    _unknown_code: [("label", r"found the codes -4, 9; those of the label table are wanted \(0, 3, 7\)")],
    _empty_label: [("label", "found no labelled voxel")],
    _no_affine: [("image", "found neither an sform nor a qform")],
    _odd_spacing: [("image", "found voxels of 8 mm")],
    _too_fine: [("image", "found a spacing of 0.001"), ("label", "found a spacing of 0.001")],
    _copy_of_the_first: [("image", "found the voxels of .*case_00.* again")],
}


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A data set with one case for each fault, after three sound ones."""
    folder = tmp_path_factory.mktemp("spoilt")
    names = write_msd(folder, 3 + len(FAULTS))
    wanted = []
    for number, (spoil, problems) in enumerate(FAULTS.items(), start=3):
        paths = {kind: folder / f"{kind}sTr" / f"{names[number]}.nii.gz" for kind in ("image", "label")}
        spoil(*paths.values(), number)
        wanted += [(str(paths[kind]), message) for kind, message in problems]
    return folder, wanted


def test_every_fault_is_listed_once_with_its_file(spoilt):
    folder, wanted = spoilt
    problems = [str(problem) for problem in check_dataset(read_dataset(folder))]
    for path, message in wanted:
        fitting = [line for line in problems if line.startswith(f"{path}: ") and re.search(message, line)]
        assert len(fitting) == 1, (path, message, problems)
    assert len(problems) == len(wanted)
    assert all(len(problem.splitlines()) == 1 for problem in problems)


def test_training_stops_before_anything_is_written(spoilt, tmp_path, caplog):
    folder, wanted = spoilt
    with caplog.at_level(logging.ERROR), pytest.raises(DatasetError, match=f"found {len(wanted)} problems") as error:
        prepare_dataset(folder, tmp_path / "run")
    assert len(error.value.problems) == len(wanted)
    assert len(caplog.messages) == len(wanted)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_several_faults_of_one_case_are_all_listed(tmp_path):
    write_msd(tmp_path)
    image, label = (tmp_path / kind / "case_02.nii.gz" for kind in ("imagesTr", "labelsTr"))
    _nan_image(image, label, 2)
    data = make_pair(2)[1][:-1].astype(np.float32)
    data[7, 8, 6], data[0, 0, 0], data[0, 0, 1] = 2.5, 9, np.nan
    write_nifti(label, data, affine_of(origin=5.0))
    problems = [str(problem) for problem in check_dataset(read_dataset(tmp_path))]
    for part in (
        "2 voxels that are NaN",
        "1 voxels that are NaN",
        "found shape",
        "an affine that",
        "no whole",
        "codes 9",
    ):
        assert sum(part in problem for problem in problems) == 1, (part, problems)
    assert len(problems) == 6


def test_case_that_is_listed_twice_is_named(tmp_path):
    names = write_msd(tmp_path)
    write_dataset_json(tmp_path, [*names, names[1]])
    problems = [str(problem) for problem in check_dataset(read_dataset(tmp_path))]
    assert len(problems) == 2
    assert "imagesTr/case_01.nii.gz: found the image in two cases" in problems[0]
    assert "labelsTr/case_01.nii.gz: found the label map in two cases" in problems[1]


def test_two_cases_of_one_name_are_named(tmp_path):
    names = write_msd(tmp_path)
    write_pair(tmp_path / "more" / "case_01.nii.gz", tmp_path / "more" / "labels.nii.gz", 50)
    entries = [{"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in names]
    entries.append({"image": "more/case_01.nii.gz", "label": "more/labels.nii.gz"})
    write_dataset_json(tmp_path, [], training=entries)
    (problem,) = check_dataset(read_dataset(tmp_path))
    assert "found the name case_01" in str(problem)


def test_rounding_of_an_affine_is_no_mismatch(tmp_path):
    write_msd(tmp_path)
    write_nifti(tmp_path / "labelsTr/case_00.nii.gz", make_pair(0)[1], affine_of(origin=1e-3))
    assert check_dataset(read_dataset(tmp_path)) == []


def test_hippocampus_set_is_sound():
    folder = SHARED_DATA / "hippocampus"
    if not folder.is_dir():
        pytest.skip("the hippocampus set is not here; docs/hippocampus.md says where it comes from")
    dataset = read_dataset(folder)
    assert len(dataset.cases) == 200
    assert [(label.code, label.name) for label in dataset.table] == [
        (0, "background"),
        (1, "Anterior"),
        (2, "Posterior"),
    ]
    assert check_dataset(dataset) == []
