"""Scans in memory are what the same scans in files are, and are refused for the same reasons."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.errors import BundleError, InputError, OptionError
from bundle.io import read_volume, write_label_map
from bundle.io.memory import label_image, load_volume

OBLIQUE = nib.affines.from_matvec(np.array([[0.1, -1.2, 0.1], [0.9, 0.1, 0.0], [0.0, 0.1, 1.5]]), [10, -20, 5])
OBLIQUE[:3, :3] = np.linalg.qr(OBLIQUE[:3, :3])[0] * [0.9, 1.2, 1.5]


def noise(shape=(7, 6, 5), seed=0):
    return np.random.default_rng(seed).normal(100, 30, shape)


def write(path, data, affine=OBLIQUE, kind=nib.Nifti1Image, slope=None, qform=None):
    image = kind(data, affine)
    if qform is not None:
        image.set_qform(qform, 1)
    if slope is not None:
        image.header.set_slope_inter(slope, 3.25)
    image.to_filename(path)
    return path


CASES = {
    "float32": ("a.nii", noise().astype(np.float32), {}),
    "float64 compressed": ("a.nii.gz", noise(), {}),
    "big-endian": ("a.nii", noise().astype(">f4"), {}),
    "scaled integers": ("a.nii.gz", noise().astype(np.int16), {"slope": 0.1}),
    "one frame axis": ("a.nii", noise((7, 6, 5, 1)).astype(np.float32), {}),
    "NIfTI-2": ("a.nii", noise().astype(np.float32), {"kind": nib.Nifti2Image}),
    "MGH": ("a.mgz", noise().astype(np.float32), {"kind": nib.MGHImage}),
    "two forms": ("a.nii", noise().astype(np.float32), {"qform": nib.affines.from_matvec(OBLIQUE[:3, :3], [0, 3, 0])}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_image_gives_the_volume_and_the_label_map_of_its_file(case, tmp_path):
    name, data, options = CASES[case]
    path = write(tmp_path / name, data, **options)
    expected, found = read_volume(path), load_volume(nib.load(path))
    assert found.data.dtype == np.float32
    np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_array_equal(found.affine, expected.affine)
    assert found.grid.source == expected.grid.source
    assert found.grid.form_difference == expected.grid.form_difference
    labels = np.random.default_rng(1).integers(0, 60, expected.data.shape).astype(np.int16)
    written = nib.load(write_label_map(labels, path, tmp_path / "labels.nii.gz"))
    image = label_image(labels, found)
    assert type(image) is type(written)
    assert image.shape == written.shape
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(image.affine, written.affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(written.dataobj))
    for form in ("get_sform", "get_qform"):
        assert getattr(image.header, form)(coded=True)[1] == getattr(written.header, form)(coded=True)[1]


def test_an_array_is_what_the_file_is_that_it_is_saved_to(tmp_path):
    data = noise()
    path = write(tmp_path / "a.nii", data)
    for array in (data, torch.from_numpy(data), np.asfortranarray(data)):
        found = load_volume(array, OBLIQUE)
        np.testing.assert_array_equal(found.data, read_volume(path).data)
        np.testing.assert_array_equal(found.affine, read_volume(path).affine)


def test_an_affine_that_was_changed_in_memory_counts(tmp_path):
    image = nib.load(write(tmp_path / "a.nii", noise().astype(np.float32), qform=OBLIQUE))
    image.affine[:3, 3] += 7
    np.testing.assert_allclose(load_volume(image).affine, image.affine, rtol=1e-6)


@pytest.mark.parametrize("trust", ["sform", "qform"])
def test_forms_that_contradict_each_other_are_refused_unless_one_is_trusted(trust, tmp_path):
    mirrored = OBLIQUE @ np.diag([-1, 1, 1, 1])
    path = write(tmp_path / "a.nii", noise().astype(np.float32), qform=mirrored)
    with pytest.raises(InputError, match="disagree about left and right"):
        load_volume(nib.load(path))
    found = load_volume(nib.load(path), trust=trust)
    np.testing.assert_array_equal(found.affine, read_volume(path, trust=trust).affine)
    labels = np.ones(found.data.shape, np.int16)
    written = nib.load(write_label_map(labels, path, tmp_path / "labels.nii", trust=trust))
    np.testing.assert_array_equal(label_image(labels, found, trust).affine, written.affine)


def test_frames_are_taken_in_the_order_of_a_file(tmp_path):
    data = noise((6, 5, 4, 2, 3)).astype(np.float32)
    path = write(tmp_path / "a.nii", data)
    for frame in (0, 1, 4):
        expected = read_volume(path, frame=frame).data
        np.testing.assert_array_equal(load_volume(data, OBLIQUE, frame=frame).data, expected)
        np.testing.assert_array_equal(load_volume(nib.load(path), frame=frame).data, expected)


def test_filling_leaves_the_array_as_it_is():
    data = noise()
    data[2, 3, 1:3] = [np.nan, np.inf]
    before = data.copy()
    found = load_volume(data, OBLIQUE, fill_nonfinite=True)
    assert found.filled == 2
    assert found.data[2, 3, 1] == 0
    np.testing.assert_array_equal(data, before)


def test_a_scan_in_memory_does_not_share_its_voxels():
    data = noise().astype(np.float32, order="F")
    load_volume(data, OBLIQUE).data[:] = 0
    assert data.any()


BAD = {
    "no affine": (noise(), None, {}, "affine: found none"),
    "affine of another shape": (noise(), np.eye(3), {}, r"affine: found shape \(3, 3\)"),
    "affine of words": (noise(), "RAS", {}, "affine: found shape"),
    "last row": (noise(), np.ones((4, 4)), {}, "affine: found the last row"),
    "NaN in the affine": (noise(), np.where(np.eye(4)[3], np.eye(4), np.nan), {}, "affine: found"),
    "singular": (noise(), np.diag([1, 0, 1, 1]), {}, "affine: found an axis of zero length"),
    "sheared": (noise(), np.eye(4) + np.eye(4, k=1) * [0, 1, 0, 0], {}, "affine: found sheared axes"),
    "metres": (noise(), np.diag([0.001, 0.001, 0.001, 1]), {}, "affine: found a spacing"),
    "two axes": (noise((7, 6)), np.eye(4), {}, r"image: found shape \(7, 6\)"),
    "no voxels": (np.empty((0, 3, 3)), np.eye(4), {}, "image: found shape"),
    "frames": (noise((7, 6, 5, 2)), np.eye(4), {}, "image: found shape"),
    "frame that is none": (noise((7, 6, 5, 2)), np.eye(4), {"frame": 2}, "image: found shape"),
    "NaN": (np.full((4, 4, 4), np.nan), np.eye(4), {}, "image: found 64 voxels that are NaN or Inf"),
    "constant": (np.ones((4, 4, 4)), np.eye(4), {}, "image: found the value 1 in every voxel"),
    "complex": (noise() + 1j, np.eye(4), {}, "image: found voxels of type complex128"),
    "booleans": (noise() > 100, np.eye(4), {}, "image: found voxels of type bool"),
    "objects": (object(), np.eye(4), {}, "image: found object"),
    "ragged": ([[1, 2], [3]], np.eye(4), {}, "image: found list"),
    "nothing": (None, np.eye(4), {}, "image: found NoneType"),
    "affine beside an image": (nib.Nifti1Image(noise(), np.eye(4)), np.eye(4), {}, "affine: found one beside"),
    "affine beside a path": ("a.nii", np.eye(4), {}, "affine: found one beside"),
    "no forms": (nib.Nifti1Image(noise(), None), None, {}, "image: found neither an sform nor a qform"),
    "frame": (noise(), np.eye(4), {"frame": -1}, "frame: found -1"),
    "trust": (noise(), np.eye(4), {"trust": "me"}, "trust: found 'me'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_refused_in_a_line_that_names_the_argument(case):
    image, affine, options, message = BAD[case]
    with pytest.raises(BundleError, match=f"^{message}") as caught:
        load_volume(image, affine, **options)
    assert "\n" not in str(caught.value)


def test_images_that_do_not_tell_left_from_right_are_refused():
    with pytest.raises(OptionError, match="image: found Spm99AnalyzeImage"):
        load_volume(nib.Spm99AnalyzeImage(noise().astype(np.float32), np.eye(4)), np.eye(4))


def test_an_image_whose_file_is_damaged_is_refused(tmp_path):
    path = write(tmp_path / "a.nii", noise().astype(np.float32))
    image = nib.load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="image: its voxels cannot be read"):
        load_volume(image)
    packed = tmp_path / "b.nii.gz"
    write(packed, noise((40, 40, 40)).astype(np.float32))
    image = nib.load(packed)
    packed.write_bytes(gzip.compress(b"") + packed.read_bytes()[:2000])
    with pytest.raises(InputError, match="image: its voxels cannot be read"):
        load_volume(image)
