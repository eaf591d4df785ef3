"""Write a label map on a grid of its own: what is made from other label maps, and belongs to no scan."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bundle.errors import OptionError
from bundle.io.whole import whole_file
from bundle.io.write import COMPRESSION_LEVEL, LABEL_INTENT

LARGEST_CODE = 32767


def write_packed(codes: NDArray[Any], affine: NDArray[np.float64], path: str | Path, overwrite: bool = False) -> Path:
    """Write codes (X, Y, Z) as NIfTI-1, in the smallest whole numbers that hold them; equal codes give equal bytes.

    Args:
        codes: 0 to 32767.
        affine: voxel to world in mm, RAS+, (4, 4).
        path: the .nii.gz to write; missing folders are made.
        overwrite: replace an existing file.

    Raises:
        OptionError: when a code is out of range, or the name is no .nii.gz.
        ExistsError: when the file exists and ``overwrite`` is false.
    """
    path = Path(path)
    if not path.name.endswith(".nii.gz"):
        raise OptionError(path, "found another extension", ".nii.gz is wanted")
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high > LARGEST_CODE:
        raise OptionError(path, f"found codes from {low} to {high}", f"0 to {LARGEST_CODE} are wanted")
    image = nib.Nifti1Image(codes.astype(np.uint8 if high < 256 else np.int16), affine)
    image.header.set_xyzt_units("mm")
    image.header["intent_code"] = LABEL_INTENT
    image.set_sform(affine, "scanner")
    image.set_qform(affine, "scanner")
    with (
        whole_file(path, overwrite) as unfinished,
        open(unfinished, "xb") as file,
        gzip.GzipFile("", "wb", COMPRESSION_LEVEL, file, mtime=0) as stream,
    ):
        stream.write(image.to_bytes())
    return path
