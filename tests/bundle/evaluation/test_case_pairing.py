"""Which file belongs to which, and whether the two lie on one grid."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bundle.datasets import read_dataset
from bundle.errors import InputError, OptionError
from bundle.evaluation import case_name, evaluation_items, pair_label_maps
from bundle.io.label_map import check_same_grid, read_grid, read_label_map
from tests.geometries import patch_header
from tests.labelled import LAYOUTS

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def write(path: Path, data: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5) if data is None else data, affine).to_filename(path)
    return path


@pytest.fixture
def folders(tmp_path):
    """Write predictions and references of the given names, and pair them."""

    def pair(predictions: list[str], references: list[str]) -> dict[str, tuple[str, str]]:
        for side, names in (("pred", predictions), ("ref", references)):
            (tmp_path / side).mkdir()
            for name in names:
                write(tmp_path / side / name)
        pairs = pair_label_maps(tmp_path / "pred", tmp_path / "ref")
        sides = [tmp_path / "pred", tmp_path / "ref"]
        return {
            p.case: (str(p.prediction.relative_to(sides[0])), str(p.reference.relative_to(sides[1]))) for p in pairs
        }

    return pair


@pytest.mark.parametrize("prediction", ["c/c_seg.nii.gz", "c/c_seg.nii", "c_seg.nii.gz", "c.nii.gz", "c_dseg.nii"])
@pytest.mark.parametrize("reference", ["c_labels.nii.gz", "c_seg.nii.gz", "c.nii.gz", "c_dseg.nii.gz", "c.nii"])
def test_names_that_belong_together(folders, prediction, reference):
    assert folders([prediction], [reference]) == {"c": (prediction, reference)}


def test_output_tree_of_the_segmentation_belongs_to_labels_beside_their_scans(folders):
    names = ["1000", "1007"]
    tree = [f"{name}_T1/{name}_T1_seg.nii.gz" for name in names]
    beside = [f"{name}_{kind}.nii.gz" for name in names for kind in ("T1", "labels")] + ["1015_T1.nii.gz"]
    found = folders(tree, beside)
    assert found == {name: (f"{name}_T1/{name}_T1_seg.nii.gz", f"{name}_labels.nii.gz") for name in names}


def test_exact_names_win_over_names_without_the_kind_of_scan(folders):
    found = folders(["a_seg.nii.gz", "a_T1_seg.nii.gz"], ["a_labels.nii.gz", "a_T1_labels.nii.gz"])
    assert found == {
        "a": ("a_seg.nii.gz", "a_labels.nii.gz"), "a_T1": ("a_T1_seg.nii.gz", "a_T1_labels.nii.gz"),
    }  # fmt: skip


def test_every_file_without_partner_is_listed(folders):
    with pytest.raises(InputError) as caught:
        folders(["a.nii.gz", "b_seg.nii.gz", "c/c_seg.nii.gz"], ["a_labels.nii.gz", "d_labels.nii", "e_labels.nii"])
    message = str(caught.value)
    assert "\n" not in message
    alone, missing = message.split("without a prediction")
    assert "b_seg.nii.gz" in alone
    assert "c/c_seg.nii.gz" in alone
    assert "d_labels.nii" in missing
    assert "e_labels.nii" in missing
    assert "/a" not in message.split("found", 1)[1].replace(str(caught.value.path), "")


def test_two_files_of_one_case_are_refused(folders):
    with pytest.raises(InputError, match=r"c_seg\.nii\.gz: found the case c in .*c\.nii\.gz too"):
        folders(["c.nii.gz", "c_seg.nii.gz"], ["c_labels.nii.gz"])


def test_scan_that_two_predictions_could_belong_to_is_left_unpaired(folders):
    with pytest.raises(InputError, match=r"2 without a reference.*1 without a prediction"):
        folders(["a_T1.nii.gz", "a_T1w.nii.gz"], ["a_labels.nii.gz"])


def test_two_files_are_a_pair_whatever_their_names(tmp_path):
    first, second = write(tmp_path / "x.nii.gz"), write(tmp_path / "y_labels.nii.gz")
    (pair,) = pair_label_maps(first, second)
    assert (pair.case, pair.prediction, pair.reference) == ("y", first, second)


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        ("none", "full", "none: no such file or folder"),
        ("full/a.nii.gz", "full", "a.nii.gz: found a file; a folder is wanted"),
        ("full", "empty", "empty: found no label map"),
        ("empty", "full", "empty: found no label map"),
    ],
)
def test_what_cannot_be_paired_is_one_line(tmp_path, prediction, reference, message):
    write(tmp_path / "full" / "a.nii.gz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        pair_label_maps(tmp_path / prediction, tmp_path / reference)
    assert message in str(caught.value)


def test_case_names():
    names = {"1000_labels.nii.gz": "1000", "a_T1_seg.nii": "a_T1", "b.nii.gz": "b", "_seg.nii.gz": "_seg"}
    assert {name: case_name(f"x/{name}") for name in names} == names


def test_grids_that_differ_are_one_line_with_both_names(tmp_path):
    reference = read_grid(write(tmp_path / "ref.nii.gz"))
    moved = AFFINE.copy()
    moved[0, 3] = 0.2
    turned = AFFINE @ np.diag([-1.0, 1, 1, 1])
    others = {
        "shape": write(tmp_path / "shape.nii.gz", np.ones((3, 4, 6), np.int16)),
        "moved": write(tmp_path / "moved.nii.gz", affine=moved),
        "turned": write(tmp_path / "turned.nii.gz", affine=turned),
    }
    for name, path in others.items():
        with pytest.raises(InputError) as caught:
            check_same_grid(read_grid(path), reference)
        assert str(caught.value).startswith(f"{path}: found ")
        assert str(tmp_path / "ref.nii.gz") in str(caught.value), name
        assert "\n" not in str(caught.value)


def test_rounding_of_an_affine_is_no_difference(tmp_path):
    moved = AFFINE.copy()
    moved[:3] += 1e-4
    check_same_grid(read_grid(write(tmp_path / "a.nii.gz", affine=moved)), read_grid(write(tmp_path / "b.nii.gz")))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_label_map_is_read_as_whole_numbers_with_its_affine(tmp_path, dtype):
    codes = np.arange(60).reshape(3, 4, 5).astype(dtype)
    found = read_label_map(write(tmp_path / "a.nii.gz", codes))
    np.testing.assert_array_equal(found.codes, codes)
    assert found.codes.dtype.kind in "iu"
    np.testing.assert_array_equal(found.grid.affine, AFFINE)


def test_label_map_of_one_code_is_read(tmp_path):
    assert (read_label_map(write(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.int16))).codes == 0).all()


def test_scaled_label_map_is_read_as_scaled(tmp_path):
    path = patch_header(write(tmp_path / "a.nii.gz"), scl_slope=2, scl_inter=1)
    np.testing.assert_array_equal(read_label_map(path).codes, 2 * np.arange(60).reshape(3, 4, 5) + 1)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 2.0**40])
def test_image_in_place_of_a_label_map_is_refused(tmp_path, value):
    data = np.zeros((3, 4, 5), np.float32)
    data[1, 1, 1] = value
    with pytest.raises(InputError, match=r"a\.nii\.gz: found .* whole numbers"):
        read_label_map(write(tmp_path / "a.nii.gz", data))


def test_items_for_the_config(tmp_path):
    for name in ("1000_T1.nii.gz", "1000_labels.nii.gz"):
        write(tmp_path / name)
    paths = {"image": str(tmp_path / "1000_T1.nii.gz"), "reference": str(tmp_path / "1000_labels.nii.gz")}
    assert evaluation_items(None, tmp_path) == [paths]
    pair = {"image": "1000_T1.nii.gz", "label": "1000_labels.nii.gz"}
    assert evaluation_items([pair], tmp_path) == [paths]
    listing = {"labels": {"0": "background", "1": "all"}, "modality": {"0": "MRI"}, "training": [pair]}
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    assert evaluation_items(None, tmp_path) == [paths]
    (tmp_path / "dataset.json").unlink()
    shutil.move(paths["reference"], tmp_path / "elsewhere.nii.gz")
    with pytest.raises(FileNotFoundError, match="1000_labels"):
        evaluation_items(None, tmp_path)
    with pytest.raises(InputError, match=r"1000_labels\.nii\.gz: no such file"):
        evaluation_items([{"image": paths["image"], "label": paths["reference"]}], tmp_path)
    with pytest.raises(OptionError, match="an image and a label"):
        evaluation_items([{"image": paths["image"]}], tmp_path)
    with pytest.raises(OptionError, match="at least one pair"):
        evaluation_items([], tmp_path)


@pytest.mark.parametrize("write_dataset", LAYOUTS, ids=lambda write: write.__name__)
def test_whatever_trains_can_be_evaluated(tmp_path, write_dataset):
    write_dataset(tmp_path)
    cases = read_dataset(tmp_path).cases
    assert len(cases) >= 5
    wanted = [{"image": str(case.image), "reference": str(case.label)} for case in cases]
    assert evaluation_items(None, tmp_path) == wanted


def test_folder_that_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"found no images with labels; a dataset\.json .*BIDS.* are wanted"):
        evaluation_items(None, tmp_path)
