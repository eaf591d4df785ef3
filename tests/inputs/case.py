"""An odd input: a file that is made by code, and what becomes of it."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests.geometries import patch_header
from tests.phantom import phantom_codes

Make = Callable[[Path], None]
T1_OF_CODE = {511: 150, 515: 20, 24: 30, 3: 90, 42: 90, 2: 140, 41: 140, 4: 30, 43: 30, 10: 110, 49: 110, 16: 130}
STEP = 3
AFFINE = np.array([[9.0, 0, 0, -95], [0, 9, 0, -104], [0, 0, 9, -88], [0, 0, 0, 1]])
NIFTI1_VOXELS = 352
"""Where they start in the files made here."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        name: what it is, in a few words.
        file: its name.
        make: writes it.
        code: of the error that refuses it; empty where it is accepted.
        says: words of the message, or of what is done.
        reading: options of the reader.
        as_nobody: has to be tried without root's rights.
    """

    name: str
    file: str
    make: Make
    code: str = ""
    says: str = ""
    reading: Mapping[str, Any] = field(default_factory=dict)
    as_nobody: bool = False

    def write(self, folder: Path) -> Path:
        """Make the file in a folder of its own and return it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file
        self.make(path)
        return path


@cache
def head() -> np.ndarray:
    """Return a T1-like phantom, whole numbers from 0 to 200 as float64, shape (22, 24, 20), axes towards R, A, S."""
    codes = phantom_codes()[::STEP, ::STEP, ::STEP]
    image = np.zeros(codes.shape)
    for code, value in T1_OF_CODE.items():
        image[codes == code] = value
    noise = np.random.default_rng(1).integers(0, 6, codes.shape)
    return image + noise


def save(
    path: Path,
    data: np.ndarray | None = None,
    affine: np.ndarray = AFFINE,
    sform: int = 1,
    qform: int = 0,
    image_class: type = nib.Nifti1Image,
    endianness: str = "<",
    **fields: Any,
) -> None:
    """Write a sound NIfTI file, then overwrite header fields of it, unchecked."""
    data = head().astype(np.int16) if data is None else data
    image = image_class(data, None, image_class.header_class(endianness=endianness))
    image.set_data_dtype(data.dtype)  # that of a header that is given stays
    image.header.set_qform(affine, qform)
    image.header.set_sform(affine, sform)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    if fields:
        patch_header(path, **fields)


def saved(*arguments: Any, **options: Any) -> Make:
    """Return what writes ``save(path, *arguments, **options)``."""
    return lambda path: save(path, *arguments, **options)


def content(**options: Any) -> bytes:
    """Return the uncompressed bytes of a NIfTI file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii"
        save(path, **options)
        return path.read_bytes()


@cache
def plain() -> bytes:
    """Return the bytes of the phantom's .nii file."""
    return content()


@cache
def zipped() -> bytes:
    """Return the bytes of the phantom's .nii.gz file."""
    return gzip.compress(plain(), 6, mtime=0)


def holding(block: bytes) -> Make:
    """Return what writes these bytes."""
    return lambda path: path.write_bytes(block) and None
