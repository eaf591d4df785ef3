"""What the header of a volume says, without its voxels: shape, type, scaling, where the volume lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError

from bundle.errors import InputError
from bundle.io.geometry import Grid, affine_source, choose_affine
from bundle.io.nifti import open_nifti, parse_header, stored_dtype, stored_shape


@dataclass(frozen=True, eq=False)
class Inspection:
    """The header of one 3D volume.

    Attributes:
        path: the file.
        header: the header as stored; ``header.get_data_shape()`` tells (X, Y, Z, 1) from (X, Y, Z).
        shape: (X, Y, Z), then any number of axes of 1.
        dtype: type of the stored voxels, an integer or a float.
    """

    path: Path
    header: Nifti1Header
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @cached_property
    def scaling(self) -> tuple[float, float] | None:
        """Slope and intercept that turn stored voxels into values, ``None`` where stored voxels are the values.

        Raises:
            InputError: when the header's scaling cannot be used.
        """
        try:
            slope, inter = self.header.get_slope_inter()
        except HeaderDataError as error:
            found = f"found unusable scaling ({error})"
            raise InputError(self.path, found, "a finite scl_inter is wanted", "damaged") from error
        return None if slope is None or (slope, inter) == (1, 0) else (slope, inter)

    def place(self, assume_affine: bool = False) -> Grid:
        """Return where the voxels lie.

        Args:
            assume_affine: accept a header without sform and qform, see :func:`bundle.io.geometry.choose_affine`.

        Raises:
            InputError: when the geometry cannot be used.
        """
        affine = choose_affine(self.header, self.path, assume_affine)
        return Grid(self.path, self.shape[:3], affine, affine_source(self.header))


def inspect_volume(path: str | Path) -> Inspection:
    """Read the header of a .nii or .nii.gz file (NIfTI-1 or NIfTI-2) and none of its voxels.

    Args:
        path: the file; (X, Y, Z, 1) counts as 3D.

    Raises:
        InputError: when the file is missing, no NIfTI file, not 3D or not of real numbers.
    """
    with open_nifti(Path(path)) as stream:
        return inspect_stream(stream, Path(path))


def inspect_stream(stream: BinaryIO, path: Path) -> Inspection:
    """Read the header at the start of a stream, see :func:`inspect_volume`."""
    header = parse_header(stream, path)
    return Inspection(path, header, stored_shape(header, path), stored_dtype(header, path))
