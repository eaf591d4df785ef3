"""A label map as it is stored, and whether two of them lie on one grid."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from bundle.errors import InputError
from bundle.io.geometry import choose_affine
from bundle.io.nifti import open_nifti, parse_header, read_header, stored_dtype, stored_shape, stored_voxels

GRID_TOLERANCE = 0.05
"""Share of the smallest voxel edge by which corners may differ: single precision and quaternions explain less."""
CODES_WANTED = "a label map of whole numbers within 32 bits is wanted"


@dataclass(frozen=True, eq=False)
class Grid:
    """Where a file's voxels lie: ``shape`` (X, Y, Z) and ``affine``, voxel to world in mm, float64 (4, 4)."""

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integer ``codes``, shape (X, Y, Z), in the file's axis order, on their ``grid``."""

    codes: np.ndarray
    grid: Grid


def read_grid(path: str | Path, assume_affine: bool = False) -> Grid:
    """Read the header of a .nii or .nii.gz file and none of its voxels.

    Args:
        path: the file; (X, Y, Z, 1) counts as 3D.
        assume_affine: accept a header without sform and qform.

    Raises:
        InputError: when the file or its geometry cannot be used.
    """
    return _grid(read_header(path), Path(path), assume_affine)


def read_label_map(path: str | Path, assume_affine: bool = False) -> LabelMap:
    """Read a label map from a .nii or .nii.gz file; unlike a scan, it may hold one code only.

    Args:
        path: the file; (X, Y, Z, 1) counts as 3D.
        assume_affine: accept a header without sform and qform.

    Raises:
        InputError: when the file, its geometry or its voxels cannot be used.
    """
    path = Path(path)
    with open_nifti(path) as stream:
        header = parse_header(stream, path)
        grid = _grid(header, path, assume_affine)
        stored_dtype(header, path)
        codes = _whole_numbers(stored_voxels(stream, header, path), header, path)
    return LabelMap(codes.reshape(grid.shape, order="F"), grid)


def check_same_grid(prediction: Grid, reference: Grid) -> None:
    """Raise unless two grids have one shape and the same corners.

    Raises:
        InputError: one line that names both files.
    """
    wanted = "the reference's grid is wanted"
    if prediction.shape != reference.shape:
        found = f"found shape {prediction.shape} against {reference.shape} in {reference.path}"
        raise InputError(prediction.path, found, wanted)
    corners = np.array(list(product(*((0, length - 1) for length in reference.shape))))
    moved = apply_affine(prediction.affine, corners) - apply_affine(reference.affine, corners)
    distance = float(np.linalg.norm(moved, axis=1).max())
    if distance > GRID_TOLERANCE * voxel_sizes(reference.affine).min():
        found = f"found an affine that puts a corner {distance:.3g} mm away from where {reference.path} has it"
        raise InputError(prediction.path, found, wanted)


def _grid(header: Nifti1Header, path: Path, assume_affine: bool) -> Grid:
    return Grid(path, stored_shape(header, path)[:3], choose_affine(header, path, assume_affine))


def _whole_numbers(voxels: np.ndarray, header: Nifti1Header, path: Path) -> np.ndarray:
    """Return the scaled voxels in a native integer type of at most 32 bits."""
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(path, f"found unusable scaling ({error})", "a finite scl_inter is wanted") from error
    if slope is not None and (slope, inter) != (1, 0):
        voxels = apply_read_scaling(voxels, np.float64(slope), np.float64(inter))
    if voxels.dtype.kind == "f" and not (np.isfinite(voxels).all() and (voxels == np.rint(voxels)).all()):
        raise InputError(path, "found fractions, NaN or Inf", CODES_WANTED)
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize <= 2:
        return voxels.astype(voxels.dtype.newbyteorder("="), order="A")
    limits = np.iinfo(np.int32)
    if voxels.min() < limits.min or voxels.max() > limits.max:
        raise InputError(path, f"found codes from {voxels.min():g} to {voxels.max():g}", CODES_WANTED)
    return voxels.astype(np.int32, order="A")
