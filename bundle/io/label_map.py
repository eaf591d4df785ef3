"""A label map as it is stored, and whether two of them lie on one grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from bundle.errors import InputError
from bundle.io.geometry import Grid
from bundle.io.inspect import Inspection, inspect_volume
from bundle.io.stream import within_memory
from bundle.io.voxels import stored_voxels

CODES_WANTED = "a label map of whole numbers within 32 bits is wanted"


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integer ``codes``, shape (X, Y, Z), in the file's axis order, on their ``grid``."""

    codes: NDArray[Any]
    grid: Grid


def read_grid(path: str | Path, assume_affine: bool = False) -> Grid:
    """Read the header of a NIfTI or MGH file and none of its voxels.

    Args:
        path: the file; (X, Y, Z, 1) counts as 3D.
        assume_affine: accept a header without sform and qform.

    Raises:
        InputError: when the file or its geometry cannot be used.
    """
    return inspect_volume(path).place(assume_affine)


def read_label_map(path: str | Path, assume_affine: bool = False, trust: str = "") -> LabelMap:
    """Read a label map from a NIfTI or MGH file; unlike a scan, it may hold one code only.

    Args:
        path: the file; (X, Y, Z, 1) counts as 3D.
        assume_affine: accept a header without sform and qform.
        trust: ``"sform"`` or ``"qform"``: which is right where both are there.

    Raises:
        InputError: when the file, its geometry or its voxels cannot be used.
    """
    info = inspect_volume(path)
    grid = info.place(assume_affine, trust)
    with within_memory(info.path):
        codes = _whole_numbers(stored_voxels(info), info)
    return LabelMap(codes.reshape(grid.shape, order="F"), grid)


def check_same_grid(prediction: Grid, reference: Grid) -> None:
    """Raise unless two grids have one shape and the same corners.

    Raises:
        InputError: one line that names both files.
    """
    difference = reference.difference(prediction)
    if difference is not None:
        raise InputError(prediction.path, difference, "the reference's grid is wanted", "grid")


def _whole_numbers(voxels: NDArray[Any], info: Inspection) -> NDArray[Any]:
    """Return the scaled voxels in a native integer type of at most 32 bits."""
    if info.scaling is not None:
        slope, inter = info.scaling
        voxels = apply_read_scaling(voxels, np.float64(slope), np.float64(inter))
    if voxels.dtype.kind == "f" and not (np.isfinite(voxels).all() and (voxels == np.rint(voxels)).all()):
        raise InputError(info.path, "found fractions, NaN or Inf", CODES_WANTED, "labels")
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize <= 2:
        return voxels.astype(voxels.dtype.newbyteorder("="), order="A")
    limits = np.iinfo(np.int32)
    if voxels.min() < limits.min or voxels.max() > limits.max:
        raise InputError(info.path, f"found codes from {voxels.min():g} to {voxels.max():g}", CODES_WANTED, "labels")
    return voxels.astype(np.int32, order="A")
