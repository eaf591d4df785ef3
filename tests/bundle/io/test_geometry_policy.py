"""Which affine is chosen, and which geometries are refused."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest

from bundle.errors import InputError
from bundle.io.geometry import choose_affine

SFORM = np.array([[1.0, 0, 0, -10], [0, 1, 0, -20], [0, 0, 1, -30], [0, 0, 0, 1]])
TURN = np.radians(30)
QFORM = np.array([[np.cos(TURN), -np.sin(TURN), 0, 5], [np.sin(TURN), np.cos(TURN), 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
"""Another space, with the same closest axes."""


def make_header(sform=SFORM, sform_code=1, qform=QFORM, qform_code=1, units=2, pixdim=(1, 1, 1)) -> nib.Nifti1Header:
    header = nib.Nifti1Header()
    header.set_data_shape((20, 30, 40))
    header.set_qform(qform, qform_code)
    header.set_sform(sform, sform_code)
    header["xyzt_units"] = units
    header["pixdim"][1:4] = pixdim
    return header


def scaled(*spacing: float) -> np.ndarray:
    return SFORM @ np.diag([*spacing, 1])


def sheared(cosine: float) -> np.ndarray:
    affine = SFORM.copy()
    affine[:3, 1] = [cosine, np.sqrt(1 - cosine**2), 0]
    return affine


def moved(x: float) -> np.ndarray:
    affine = SFORM.copy()
    affine[0, 3] = x
    return affine


def with_value(value: float, row: int = 0, column: int = 0) -> np.ndarray:
    affine = SFORM.copy()
    affine[row, column] = value
    return affine


@pytest.mark.parametrize(
    ("sform_code", "qform_code", "wanted"),
    [(1, 0, SFORM), (4, 1, SFORM), (2, 2, SFORM), (5, 1, SFORM), (0, 1, QFORM), (0, 3, QFORM), (-1, 1, QFORM)],
)
def test_sform_wins_then_qform(sform_code, qform_code, wanted):
    header = make_header()
    header["sform_code"], header["qform_code"] = sform_code, qform_code
    affine = choose_affine(header, "scan.nii")
    assert affine.dtype == np.float64
    np.testing.assert_allclose(affine, wanted, atol=1e-6)


def test_file_without_an_affine_is_refused_unless_assumed():
    header = make_header(sform_code=0, qform_code=0, pixdim=(1, 2, 3))
    with pytest.raises(InputError, match=r"^scan\.nii: found neither an sform nor a qform; .* wanted$"):
        choose_affine(header, "scan.nii")
    wanted = [[-1, 0, 0, 9.5], [0, 2, 0, -29], [0, 0, 3, -58.5], [0, 0, 0, 1]]
    np.testing.assert_allclose(choose_affine(header, "scan.nii", assume_affine=True), wanted)


def test_assume_affine_does_not_replace_a_stored_one():
    np.testing.assert_array_equal(choose_affine(make_header(), "scan.nii", assume_affine=True), SFORM)


@pytest.mark.parametrize(("qfac", "sign"), [(0, 1), (1, 1), (-1, -1)])
def test_unset_qfac_counts_as_one_and_the_header_is_left_alone(qfac, sign):
    header = make_header(sform_code=0)
    header["pixdim"][0] = qfac
    before = header.binaryblock
    np.testing.assert_allclose(choose_affine(header, "scan.nii"), QFORM @ np.diag([1, 1, sign, 1]), atol=1e-6)
    assert header.binaryblock == before


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("factor", [1.001, 0.999, 1.019, 0.981])
def test_pixdim_up_to_two_percent_off_warns_and_the_affine_stays(axis, factor):
    pixdim = np.ones(3)
    pixdim[axis] = factor
    with pytest.warns(UserWarning, match=r"^scan\.nii: found pixdim [^\n]+$"):
        affine = choose_affine(make_header(pixdim=pixdim), "scan.nii")
    np.testing.assert_array_equal(affine, SFORM)


@pytest.mark.parametrize("factor", [1.00001, 0.99999, -1])
def test_pixdim_off_by_rounding_or_sign_is_silent(factor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        affine = choose_affine(make_header(pixdim=np.ones(3) * factor), "scan.nii")
    np.testing.assert_array_equal(affine, SFORM)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("factor", [1.021, 0.979, 10, 0, np.nan])
def test_pixdim_further_off_is_refused(axis, factor):
    pixdim = np.ones(3)
    pixdim[axis] = factor
    with pytest.raises(InputError, match=r"^scan\.nii: found pixdim .*; at most 2% of difference is wanted$"):
        choose_affine(make_header(pixdim=pixdim), "scan.nii")


@pytest.mark.parametrize(
    ("sform", "pixdim"),
    [
        (sheared(0.049), (1, 1, 1)),
        (sheared(-0.049), (1, 1, 1)),
        (scaled(0.05, 1, 25), (0.05, 1, 25)),
        (scaled(-1, 1, 1), (1, 1, 1)),
        (moved(99_999), (1, 1, 1)),
        (moved(-99_999), (1, 1, 1)),
    ],
)
def test_unusual_geometry_within_the_limits_is_kept(sform, pixdim):
    affine = choose_affine(make_header(sform=sform, qform_code=0, pixdim=pixdim), "scan.nii")
    np.testing.assert_array_equal(affine, sform.astype(np.float32))


@pytest.mark.parametrize(
    ("sform", "reason"),
    [
        (sheared(0.051), "sheared axes"),
        (sheared(-0.051), "sheared axes"),
        (SFORM[:, [0, 0, 2, 3]], "sheared axes"),
        (scaled(0.049, 1, 1), "a spacing of"),
        (scaled(1, 1, 25.1), "a spacing of"),
        (scaled(1, 0, 1), "zero length"),
        (np.diag([0.0, 0, 0, 1]), "zero length"),
        (moved(100_001), "an origin"),
        (moved(-100_001), "an origin"),
        (with_value(np.nan), "NaN or Inf"),
        (with_value(np.inf, 2, 3), "NaN or Inf"),
    ],
)
def test_unusable_sform_is_refused_and_the_qform_does_not_step_in(sform, reason):
    spacing = np.linalg.norm(sform[:3, :3], axis=0)
    with pytest.raises(InputError, match=f"^scan.nii: found .*{reason}.*; .* wanted$"):
        choose_affine(make_header(sform=sform, pixdim=spacing), "scan.nii")


def test_invalid_quaternion_is_refused():
    header = make_header(sform_code=0)
    header["quatern_b"], header["quatern_c"] = 1, 1
    with pytest.raises(InputError, match=r"^scan\.nii: found an invalid qform .*; a unit quaternion is wanted$"):
        choose_affine(header, "scan.nii")


def test_negative_pixdim_under_a_qform_is_refused():
    with pytest.raises(InputError, match="found an invalid qform"):
        choose_affine(make_header(sform_code=0, pixdim=(-1, 1, 1)), "scan.nii")


@pytest.mark.parametrize(("units", "reason"), [(1, "metres"), (3, "micrometres"), (5, "5"), (8 + 1, "metres")])
def test_other_units_than_mm_are_refused(units, reason):
    with pytest.raises(InputError, match=f"^scan.nii: found units {reason}; mm is wanted$"):
        choose_affine(make_header(units=units), "scan.nii")


@pytest.mark.parametrize("units", [0, 2, 8, 10, 16 + 2])
def test_mm_and_unknown_units_are_accepted_with_any_time_unit(units):
    np.testing.assert_array_equal(choose_affine(make_header(units=units), "scan.nii"), SFORM)
