"""A NIfTI file as it is stored: bytes, header, voxels, before any of it is interpreted."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

from bundle.errors import InputError, MissingError
from bundle.io.names import volume_suffix

HEADER_CLASSES: dict[int, type[Nifti1Header]] = {348: Nifti1Header, 540: Nifti2Header}
MAX_DEFLATE_RATIO = 1032
"""No deflate stream expands by more (zlib's technical notes)."""

NIFTI_WANTED = "a NIfTI file, .nii or .nii.gz, is wanted"
COMPLETE_WANTED = "a complete NIfTI file is wanted"


@contextmanager
def open_nifti(path: Path) -> Iterator[BinaryIO]:
    """Open a .nii or .nii.gz file as a stream of uncompressed bytes.

    Raises:
        InputError: when the name, the file, or whatever the caller reads from the stream cannot be used.
    """
    _check_file(path)
    try:
        with gzip.open(path) if volume_suffix(path) == ".nii.gz" else open(path, "rb") as stream:
            yield cast(BinaryIO, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(path, f"found damaged or truncated gzip data ({error})", COMPLETE_WANTED, "damaged") from error
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
        raise InputError(path, reason, "a readable file is wanted", "unreadable") from error
    except MemoryError as error:
        raise InputError(path, "does not fit in memory", "a smaller volume is wanted", "memory") from error


def parse_header(stream: BinaryIO, path: Path) -> Nifti1Header:
    """Return the header at the start of ``stream``; nibabel's repairs are left out, so that fields stay as stored."""
    block = stream.read(max(HEADER_CLASSES))
    for endianness, order in (("<", "little"), (">", "big")):
        size = int.from_bytes(block[:4], order)  # type: ignore[arg-type]
        if size in HEADER_CLASSES and len(block) >= size:
            header = HEADER_CLASSES[size](block[:size], endianness=endianness, check=False)
            break
    else:
        raise InputError(path, "found no NIfTI header", NIFTI_WANTED)
    magic = header["magic"].item()
    if magic != header.single_magic:
        kind = "a detached header (.hdr/.img pair)" if magic == header.pair_magic else "an Analyze header"
        raise InputError(path, f"found {kind}", NIFTI_WANTED)
    return header


def stored_shape(header: Nifti1Header, path: Path) -> tuple[int, ...]:
    """Return the file's shape: three axes of at least 2 voxels, then any number of axes of 1.

    Raises:
        InputError: for every other shape.
    """
    dim = [int(size) for size in header["dim"]]
    shape = tuple(dim[1 : dim[0] + 1])
    if not 3 <= dim[0] <= 7 or min(shape[:3]) < 2 or any(size != 1 for size in shape[3:]):
        raise InputError(path, f"found shape {shape}", "a single 3D volume is wanted", "shape")
    return shape


def stored_dtype(header: Nifti1Header, path: Path) -> np.dtype[Any]:
    """Return the type of the stored voxels, an integer or a float.

    Raises:
        InputError: for colours, complex numbers and unknown types.
    """
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except KeyError:
        dtype = np.dtype("V")
    if dtype.kind not in "iuf":
        found = f"found voxels of type {header.get_value_label('datatype')}"
        raise InputError(path, found, "real numbers are wanted", "type")
    return dtype


def stored_voxels(stream: BinaryIO, header: Nifti1Header, path: Path) -> NDArray[Any]:
    """Return the voxels as stored, before scaling, in the file's shape and type; ``stream`` is read to its end.

    Raises:
        InputError: when voxels are missing.
    """
    shape, dtype = stored_shape(header, path), stored_dtype(header, path)
    vox_offset = float(header["vox_offset"])
    if not 0 <= vox_offset < 2**31:
        raise InputError(path, f"found voxels at byte {vox_offset:g}", COMPLETE_WANTED, "damaged")
    offset = max(int(vox_offset), header.single_vox_offset)
    size = prod(shape) * dtype.itemsize

    at_most = path.stat().st_size * (MAX_DEFLATE_RATIO if volume_suffix(path) == ".nii.gz" else 1) - offset
    if at_most < size:
        raise InputError(path, f"found at most {max(at_most, 0)} of {size} voxel bytes", COMPLETE_WANTED, "damaged")
    stream.seek(offset)
    voxels = stream.read(size)
    if len(voxels) < size:
        raise InputError(path, f"found {len(voxels)} of {size} voxel bytes", COMPLETE_WANTED, "damaged")
    while stream.read(1 << 20):  # gzip compares its checksum at the end of the stream only
        pass
    return np.frombuffer(voxels, dtype).reshape(shape, order="F")


def _check_file(path: Path) -> None:
    if volume_suffix(path) is None:
        raise InputError(path, f"found the extension {path.suffix or '(none)'}", NIFTI_WANTED)
    if not path.exists():
        raise MissingError(path, "no such file", "an existing file is wanted")
    if not path.is_file():
        raise InputError(path, "found a folder" if path.is_dir() else "found no regular file", NIFTI_WANTED)
    if path.stat().st_size == 0:
        raise InputError(path, "found an empty file", COMPLETE_WANTED, "damaged")
