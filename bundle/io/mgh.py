"""FreeSurfer's MGH header, said again as a NIfTI header: what reads and writes volumes then knows one kind alone.

``tests/inputs/test_formats.py`` holds shape, values and affine equal to nibabel's.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from nibabel.freesurfer.mghformat import DATA_OFFSET, MGHHeader
from nibabel.nifti1 import Nifti1Header

from bundle.errors import InputError
from bundle.io.kinds import VOLUME_WANTED
from bundle.io.nifti import Stored
from bundle.io.preflight import COMPLETE_WANTED

LONGEST_AXIS = 2**15 - 1
"""NIfTI-1's, in which the label map is written."""
LARGEST_FOOTER = 2**26
"""Bytes of tags after the voxels."""
ROUNDING = 1e-2
"""mm, of single precision."""
SCANNER = 1
"""Code of sform and qform: MGH's affine leads to the scanner's space."""


def read_mgh(stream: BinaryIO, path: Path) -> Stored:
    """Return what the header at the start of ``stream`` says.

    Raises:
        InputError: when it is none, or one that cannot be true or does not say where the volume lies.
    """
    block = stream.read(DATA_OFFSET)
    if len(block) < DATA_OFFSET:
        found = f"found no MGH header: it ends after {len(block)} of {DATA_OFFSET} bytes"
        raise InputError(path, found, COMPLETE_WANTED, "damaged")
    header = MGHHeader(block, check=False)
    if int(header["version"]) != 1:
        raise InputError(path, "found no MGH header", VOLUME_WANTED)
    try:
        dtype = header.get_data_dtype()
    except KeyError as error:
        found = f"found voxels of MGH's type {int(header['type'])}"
        raise InputError(path, found, "real numbers are wanted", "type") from error
    shape = tuple(int(size) for size in header["dims"])
    if not all(1 <= size <= LONGEST_AXIS for size in shape):
        raise InputError(path, f"found shape {shape}", "a single 3D volume is wanted", "shape")
    if not int.from_bytes(block[28:30], "big"):
        found = "found no orientation (goodRASFlag is 0)"
        raise InputError(path, found, "a header that says where the volume lies is wanted", "geometry")
    shape = shape[:3] if shape[3] == 1 else shape
    return Stored(as_nifti(header, shape, dtype), shape, dtype, path, DATA_OFFSET, LARGEST_FOOTER)


def as_nifti(mgh: MGHHeader, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Nifti1Header:
    """Return a NIfTI header with the same shape, type and affine, as sform and as qform, in mm."""
    header = Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header.set_xyzt_units("mm")
    affine = np.asarray(mgh.get_affine(), dtype=np.float64)
    header.set_sform(affine, SCANNER)
    if np.isfinite(affine).all() and np.linalg.det(affine[:3, :3]):
        header.set_qform(affine, SCANNER)
        if not np.allclose(header.get_qform(), affine, atol=ROUNDING):  # sheared: no quaternion can say that
            header["qform_code"] = 0
    header["pixdim"][1:4] = mgh["delta"]
    return header
