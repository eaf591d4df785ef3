"""Read a scan, or say in one line why it cannot be used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from bundle.errors import InputError
from bundle.io.geometry import choose_affine
from bundle.io.nifti import open_nifti, parse_header, stored_dtype, stored_shape, stored_voxels


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
    data: np.ndarray
    affine: np.ndarray
    header: Nifti1Header


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
        header = parse_header(stream, path)
        shape = stored_shape(header, path)
        stored_dtype(header, path)
        affine = choose_affine(header, path, assume_affine)
        data = _scale(stored_voxels(stream, header, path), header, path).reshape(shape[:3], order="F")
    _check_intensities(data, path)
    return Volume(path, data, affine, header)


@dataclass(frozen=True, eq=False)
class Voxels:
    """Scaled voxels (X, Y, Z) of a 3D file, with its header; of an integer file without scaling, integers."""

    data: np.ndarray
    header: Nifti1Header


def read_voxels(path: str | Path) -> Voxels:
    """Read a 3D file, whatever its affine.

    Raises:
        InputError: when the file is missing, truncated, no NIfTI file, not 3D or not of real numbers.
    """
    path = Path(path)
    with open_nifti(path) as stream:
        header = parse_header(stream, path)
        stored_dtype(header, path)
        stored = stored_voxels(stream, header, path)
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(path, f"found unusable scaling ({error})", "a finite scl_inter is wanted") from error
    if slope is not None and (slope, inter) != (1, 0):
        stored = stored * np.float64(slope) + np.float64(inter)
    return Voxels(stored.reshape(stored.shape[:3], order="F"), header)


def digest(data: np.ndarray) -> str:
    """Return a hash of shape and values: two files with one digest hold the same picture, whatever their type."""
    values = np.asarray(data, dtype=np.float32)
    return hashlib.blake2b(repr(values.shape).encode() + values.tobytes("F"), digest_size=16).hexdigest()


def _scale(voxels: np.ndarray, header: Nifti1Header, path: Path) -> np.ndarray:
    """Return ``slope * voxels + inter`` as float32; NumPy computes it in float64 for integers of 32 bits or more."""
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(path, f"found unusable scaling ({error})", "a finite scl_inter is wanted") from error
    with np.errstate(over="ignore", invalid="ignore"):
        if slope is not None:
            voxels = apply_read_scaling(voxels, np.float32(slope), np.float32(inter))
        return np.array(voxels, dtype=np.float32, order="F")


def _check_intensities(data: np.ndarray, path: Path) -> None:
    unusable = data.size - int(np.count_nonzero(np.isfinite(data)))
    if unusable:
        raise InputError(path, f"found {unusable} voxels that are NaN or Inf", "finite intensities are wanted")
    if data.min() == data.max():
        raise InputError(path, f"found the value {data.flat[0]:g} in every voxel", "an image with contrast is wanted")
