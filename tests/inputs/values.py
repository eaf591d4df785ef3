"""Voxels that are no intensities of a head."""

from __future__ import annotations

import numpy as np

from tests.inputs.case import Case, head, saved


def with_values(*values: float, dtype=np.float32):
    """Return what writes the phantom with values in its first voxels."""
    data = head().astype(dtype)
    data.flat[: len(values)] = values
    return saved(data)


def _slab(axis: int, slices: int = 1):
    data = np.full(head().shape, 3, np.int16)
    np.moveaxis(data, axis, 0)[5 : 5 + slices] = 900
    return saved(data)


def _filled(value: float, dtype=np.float32):
    return saved(np.full(head().shape, value, dtype))


def _one_slice():
    data = np.zeros(head().shape, np.int16)
    data[:, :, 7] = head()[:, :, 7]
    return saved(data)


def _hot(*voxel: int):
    data = np.zeros(head().shape, np.float32)
    data[voxel] = 1
    return saved(data)


CASES = [
    Case("a NaN", "nan.nii.gz", with_values(np.nan), "intensities", "found 1 voxels that are NaN or Inf; finite"),
    Case("NaN and Inf", "inf.nii.gz", with_values(np.inf, -np.inf, np.nan), "intensities", "or --fill-nonfinite"),
    Case(
        "NaN in float64",
        "nan64.nii",
        with_values(np.nan, dtype=np.float64),
        "intensities",
        "found 1 voxels that are NaN",
    ),
    Case("nothing but NaN", "nans.nii.gz", _filled(np.nan), "intensities", "found 10560 voxels that are NaN or Inf"),
    Case(
        "nothing but NaN, filled",
        "zeros.nii.gz",
        _filled(np.nan),
        "intensities",
        "the value 0 in every",
        {"fill_nonfinite": True},
    ),
    Case("1e300", "1e300.nii", with_values(1e300, dtype=np.float64), "intensities", "found 1 voxels beyond 1e+37"),
    Case(
        "1e300, filled",
        "e300.nii",
        with_values(1e300, dtype=np.float64),
        "intensities",
        "beyond",
        {"fill_nonfinite": True},
    ),
    Case("1e38", "1e38.nii", with_values(1e38, -1e38), "intensities", "found 2 voxels beyond 1e+37"),
    Case("slope that overflows", "slope.nii", saved(scl_slope=3e38, scl_inter=0), "intensities", "beyond 1e+37"),
    Case(
        "slope that underflows", "tiny.nii", saved(scl_slope=1e-44, scl_inter=5), "intensities", "the value 5 in every"
    ),
    Case(
        "all zero", "zero.nii.gz", _filled(0), "intensities", "found the value 0 in every voxel; an image with contrast"
    ),
    Case("all seven", "seven.nii", _filled(7, np.uint8), "intensities", "found the value 7 in every voxel"),
    *(
        Case(f"one hot slab, axis {axis}", f"slab_{axis}.nii.gz", _slab(axis), "intensities", "in all but 1 of")
        for axis in range(3)
    ),
    Case("one slice of a head", "slice_of_head.nii.gz", _one_slice(), "intensities", "the value 0 in all but 1 of 20"),
    Case("one hot voxel", "voxel.nii.gz", _hot(4, 5, 6), "intensities", "the value 0 in all but 1 of 22 slices"),
    Case("one hot row", "row.nii.gz", _hot(slice(None), 5, 6), "intensities", "the value 0 in all but 1 of 24 slices"),
]
