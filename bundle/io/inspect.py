"""What the header of a volume says, without its voxels: shape, type, scaling, where the volume lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError

from bundle.errors import InputError
from bundle.io.geometry import Grid, place_volume
from bundle.io.mgh import read_mgh
from bundle.io.names import MGH_SUFFIXES, volume_suffix
from bundle.io.nifti import Stored, one_volume, read_nifti
from bundle.io.preflight import check_pair
from bundle.io.stream import open_stream


@dataclass(frozen=True, eq=False)
class Inspection:
    """The header of one 3D volume.

    Attributes:
        path: the file.
        header: the header as stored; ``header.get_data_shape()`` tells (X, Y, Z, 1) from (X, Y, Z). Of one frame of
            many, it is a header of three axes; of an MGH file, a NIfTI header that says the same.
        shape: (X, Y, Z), then any number of axes of 1.
        dtype: type of the stored voxels, an integer or a float.
        stored: how the voxels lie in the file.
        frame: which volume of the file it is, counted from 0.
    """

    path: Path
    header: Nifti1Header
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    stored: Stored
    frame: int = 0

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

    def place(self, assume_affine: bool = False, trust: str = "") -> Grid:
        """Return where the voxels lie.

        Args:
            assume_affine: accept a header without sform and qform, see :func:`bundle.io.geometry.choose_affine`.
            trust: ``"sform"`` or ``"qform"``: which is right where both are there.

        Raises:
            InputError: when the geometry cannot be used.
        """
        return place_volume(self.header, self.path, self.shape[:3], assume_affine, trust)


def inspect_volume(path: str | Path, frame: int | None = None) -> Inspection:
    """Read the header of a file (NIfTI-1, NIfTI-2, a .hdr/.img pair of either, or MGH) and none of its voxels.

    Args:
        path: the file, or one half of a pair; (X, Y, Z, 1) counts as 3D.
        frame: which volume of a file of four to seven axes, counted from 0 in the order in which they are stored.

    Raises:
        InputError: when the file is missing, none of these, not 3D or not of real numbers.
    """
    path = Path(path)
    header_file, image = check_pair(path)
    with open_stream(header_file) as stream:
        is_mgh = volume_suffix(path) in MGH_SUFFIXES
        stored = read_mgh(stream, path) if is_mgh else read_nifti(stream, header_file, image)
    header, shape = one_volume(stored, path, frame)
    return Inspection(path, header, shape, stored.dtype, stored, frame or 0)
