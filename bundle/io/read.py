"""Read the voxels of a volume, or say in one line why they cannot be used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from bundle.errors import InputError
from bundle.io.inspect import Inspection, inspect_stream
from bundle.io.nifti import open_nifti, stored_voxels


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D scan.

    Attributes:
        path: the file.
        data: scaled intensities, float32 (X, Y, Z), in the file's axis order.
        affine: voxel to world, mm, RAS+, float64 (4, 4).
        header: the header as stored; ``header.get_data_shape()`` tells (X, Y, Z, 1) from (X, Y, Z).
    """

    path: Path
    data: NDArray[Any]
    affine: NDArray[np.float64]
    header: Nifti1Header


@dataclass(frozen=True, eq=False)
class Voxels:
    """Scaled voxels (X, Y, Z), integers where the file holds such without scaling, and what the header says."""

    data: NDArray[Any]
    info: Inspection


def read_volume(path: str | Path, assume_affine: bool = False) -> Volume:
    """Read one 3D scan from a .nii or .nii.gz file (NIfTI-1 or NIfTI-2).

    Args:
        path: the file; (X, Y, Z, 1) counts as 3D.
        assume_affine: accept a header without sform and qform, see :func:`bundle.io.geometry.choose_affine`.

    Raises:
        InputError: when the file, its geometry or its voxels cannot be used.
    """
    path = Path(path)
    with open_nifti(path) as stream:
        info = inspect_stream(stream, path)
        grid = info.place(assume_affine)
        data = _intensities(stored_voxels(stream, info.header, path), info).reshape(grid.shape, order="F")
    _check_intensities(data, path)
    return Volume(path, data, grid.affine, info.header)


def read_voxels(path: str | Path) -> Voxels:
    """Read a 3D file before its geometry and its values are judged: a check must say all that is wrong.

    Raises:
        InputError: when the file is missing, truncated, no NIfTI file, not 3D or not of real numbers.
    """
    path = Path(path)
    with open_nifti(path) as stream:
        info = inspect_stream(stream, path)
        data = stored_voxels(stream, info.header, path)
        if info.scaling is not None:
            slope, inter = info.scaling
            data = data * np.float64(slope) + np.float64(inter)
    return Voxels(data.reshape(info.shape[:3], order="F"), info)


def voxel_digest(data: NDArray[Any]) -> str:
    """Return a hash of shape and values: two files with one digest hold the same picture, whatever their type."""
    values = np.asarray(data, dtype=np.float32)
    return hashlib.blake2b(repr(values.shape).encode() + values.tobytes("F"), digest_size=16).hexdigest()


def _intensities(voxels: NDArray[Any], info: Inspection) -> NDArray[Any]:
    """Return ``slope * voxels + inter`` as float32; NumPy computes it in float64 for integers of 32 bits or more."""
    with np.errstate(over="ignore", invalid="ignore"):
        if info.scaling is not None:
            slope, inter = info.scaling
            voxels = apply_read_scaling(voxels, np.float32(slope), np.float32(inter))
        return np.array(voxels, dtype=np.float32, order="F")


def _check_intensities(data: NDArray[Any], path: Path) -> None:
    unusable = data.size - int(np.count_nonzero(np.isfinite(data)))
    if unusable:
        found = f"found {unusable} voxels that are NaN or Inf"
        raise InputError(path, found, "finite intensities are wanted", "intensities")
    if data.min() == data.max():
        found = f"found the value {data.flat[0]:g} in every voxel"
        raise InputError(path, found, "an image with contrast is wanted", "intensities")
