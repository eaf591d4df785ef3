"""What a header says, without the voxels behind it."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bundle.errors import InputError, MissingError
from bundle.io import inspect_volume, read_volume
from bundle.io.geometry import Grid

AFFINE = np.array([[-1.5, 0, 0, 20], [0, 0, 2, -30], [0, 1, 0, 4], [0, 0, 0, 1.0]])


def save(path, sform: int = 1, qform: int = 0, dtype=np.int16, shape=(5, 6, 7)):
    image = nib.Nifti1Image(np.arange(np.prod(shape)).reshape(shape).astype(dtype), None)
    image.header.set_sform(AFFINE, sform)
    image.header.set_qform(AFFINE, qform)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_header_is_enough(tmp_path, suffix):
    path = save(tmp_path / f"scan{suffix}", shape=(5, 6, 7, 1))
    whole = nib.load(path)
    content = nib.Nifti1Image(np.asarray(whole.dataobj), whole.affine, whole.header).to_bytes()[:348]
    alone = tmp_path / "alone.nii"
    alone.write_bytes(content)
    for file in (path, alone):
        info = inspect_volume(file)
        assert info.shape == (5, 6, 7, 1)
        assert info.dtype == np.int16
        grid = info.place()
        assert grid.shape == (5, 6, 7)
        np.testing.assert_allclose(grid.affine, AFFINE)
        np.testing.assert_allclose(grid.spacing, [1.5, 1, 2])
    with pytest.raises(InputError, match="voxel bytes") as caught:
        read_volume(alone)
    assert caught.value.code == "damaged"


@pytest.mark.parametrize(("sform", "qform", "source"), [(1, 0, "sform"), (2, 1, "sform"), (0, 1, "qform")])
def test_source_of_the_affine_is_told(tmp_path, sform, qform, source):
    assert inspect_volume(save(tmp_path / "scan.nii", sform, qform)).place().source == source


def test_assumed_affine_is_told_too(tmp_path):
    info = inspect_volume(save(tmp_path / "scan.nii", 0, 0))
    with pytest.raises(InputError, match="neither an sform nor a qform") as caught:
        info.place()
    assert caught.value.code == "geometry"
    assert info.place(assume_affine=True).source == "assumed"


def test_scaling_is_none_where_stored_voxels_are_the_values(tmp_path):
    path = save(tmp_path / "scan.nii")
    assert inspect_volume(path).scaling is None
    image = nib.load(path)
    image.header["scl_slope"], image.header["scl_inter"] = 2, -3
    raw = bytearray(path.read_bytes())
    raw[:348] = image.header.binaryblock
    path.write_bytes(raw)
    assert inspect_volume(path).scaling == (2, -3)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: None, "missing"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_text("text " * 200), "format"),
        (lambda path: path.mkdir(), "format"),
        (lambda path: save(path, shape=(5, 6, 7, 2)), "shape"),
        (lambda path: save(path, shape=(5, 6)), "shape"),
        (lambda path: save(path, dtype=np.complex64), "type"),
    ],
)
def test_code_says_what_is_wrong(tmp_path, make, code):
    path = tmp_path / "scan.nii"
    make(path)
    with pytest.raises(InputError) as caught:
        inspect_volume(path)
    assert caught.value.code == code
    assert isinstance(caught.value, MissingError) == (code == "missing")


def test_grids_differ_by_shape_or_by_a_corner(tmp_path):
    shape = (10, 12, 14)
    first = Grid(tmp_path / "a.nii", shape, AFFINE)
    assert first.difference(Grid(tmp_path / "b.nii", shape, AFFINE + 1e-6)) is None
    assert "found shape (10, 12, 15)" in first.difference(Grid(tmp_path / "b.nii", (10, 12, 15), AFFINE))
    turned = AFFINE.copy()
    turned[0, 0] *= 1.01  # the far corner moves by 0.135 mm, more than 5 % of 1 mm
    assert "0.135 mm away" in first.difference(Grid(tmp_path / "b.nii", shape, turned))
