"""The voxels of a file, before its geometry is judged: a check must say all that is wrong, not the first thing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError

from bundle.io import InputError
from bundle.io.nifti import open_nifti, parse_header, stored_dtype, stored_voxels


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
