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

from bundle.errors import OptionError
from bundle.io.forms import AFFINE_FORMS
from bundle.io.geometry import Grid
from bundle.io.inspect import Inspection, inspect_volume
from bundle.io.intensities import check_contrast, check_finite, zero_nonfinite
from bundle.io.stream import within_memory
from bundle.io.voxels import stored_voxels


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D scan.

    Attributes:
        path: the file.
        data: scaled intensities, float32 (X, Y, Z), in the file's axis order.
        affine: voxel to world, mm, RAS+, float64 (4, 4).
        header: the header as stored; ``header.get_data_shape()`` tells (X, Y, Z, 1) from (X, Y, Z).
        grid: the affine again, what gave it, and how the sform and the qform differ.
        filled: voxels that were NaN or Inf and became 0.
        in_file: whether it was read from ``path``; else that is what it is called.
    """

    path: Path
    data: NDArray[Any]
    affine: NDArray[np.float64]
    header: Nifti1Header
    grid: Grid
    filled: int = 0
    in_file: bool = True


@dataclass(frozen=True, eq=False)
class Voxels:
    """Scaled voxels (X, Y, Z), integers where the file holds such without scaling, and what the header says."""

    data: NDArray[Any]
    info: Inspection


def check_reading(frame: int | None = None, trust: str = "") -> None:
    """Refuse options of :func:`read_volume` that no file could fit.

    Raises:
        OptionError: naming the option.
    """
    if frame is not None and (isinstance(frame, bool) or not isinstance(frame, int) or frame < 0):
        raise OptionError("frame", f"found {frame!r}", "a whole number from 0 on is wanted")
    if trust not in ("", *AFFINE_FORMS):
        raise OptionError("trust", f"found {trust!r}", f"{' or '.join(AFFINE_FORMS)} is wanted")


def read_volume(
    path: str | Path,
    assume_affine: bool = False,
    fill_nonfinite: bool = False,
    frame: int | None = None,
    trust: str = "",
) -> Volume:
    """Read one 3D scan from a NIfTI or MGH file.

    Args:
        path: the file, see :func:`bundle.io.inspect.inspect_volume`; (X, Y, Z, 1) counts as 3D.
        assume_affine: accept a header without sform and qform, see :func:`bundle.io.geometry.choose_affine`.
        fill_nonfinite: set NaN and Inf to 0 instead of refusing them; ``Volume.filled`` counts them.
        frame: which volume of a file of four to seven axes, counted from 0 in the order in which they are stored.
        trust: ``"sform"`` or ``"qform"``: which is right where both are there.

    Raises:
        InputError: when the file, its geometry or its voxels cannot be used.
        OptionError: when ``frame`` or ``trust`` is none that could be.
    """
    path = Path(path)
    check_reading(frame, trust)
    info = inspect_volume(path, frame)
    grid = info.place(assume_affine, trust)
    with within_memory(path):
        voxels = stored_voxels(info, is_scan=True)
        return scaled_volume(voxels, info.scaling, info.header, grid, fill_nonfinite)


def scaled_volume(
    voxels: NDArray[Any],
    scaling: tuple[float, float] | None,
    header: Nifti1Header,
    grid: Grid,
    fill_nonfinite: bool = False,
    in_file: bool = True,
) -> Volume:
    """Return a scan from its voxels as they are stored, once their values can be those of an image.

    Args:
        voxels: changed in place where NaN or Inf is filled.
        scaling: slope and intercept; ``None`` where the voxels are the values.
        header: of the scan.
        grid: where the voxels lie; its path names the scan in messages.
        fill_nonfinite: set NaN and Inf to 0 instead of refusing them.
        in_file: whether the scan was read from that path.

    Raises:
        InputError: when they cannot.
    """
    filled = zero_nonfinite(voxels) if fill_nonfinite else 0
    check_finite(voxels, grid.path)
    data = _intensities(voxels, scaling).reshape(grid.shape, order="F")
    check_contrast(data, grid.path)
    return Volume(grid.path, data, grid.affine, header, grid, filled, in_file)


def read_voxels(path: str | Path) -> Voxels:
    """Read a 3D file before its geometry and its values are judged: a check must say all that is wrong.

    Raises:
        InputError: when the file is missing, truncated, no NIfTI or MGH file, not 3D or not of real numbers.
    """
    info = inspect_volume(path)
    with within_memory(info.path):
        data = stored_voxels(info)
        if info.scaling is not None:
            slope, inter = info.scaling
            data = data * np.float64(slope) + np.float64(inter)
    return Voxels(data.reshape(info.shape[:3], order="F"), info)


def voxel_digest(data: NDArray[Any]) -> str:
    """Return a hash of shape and values: two files with one digest hold the same picture, whatever their type."""
    values = np.asarray(data, dtype=np.float32)
    return hashlib.blake2b(repr(values.shape).encode() + values.tobytes("F"), digest_size=16).hexdigest()


def _intensities(voxels: NDArray[Any], scaling: tuple[float, float] | None) -> NDArray[Any]:
    """Return ``slope * voxels + inter`` as float32; NumPy computes it in float64 for integers of 32 bits or more."""
    with np.errstate(over="ignore", invalid="ignore"):
        if scaling is not None:
            slope, inter = scaling
            voxels = apply_read_scaling(voxels, np.float32(slope), np.float32(inter))
        return np.array(voxels, dtype=np.float32, order="F")
