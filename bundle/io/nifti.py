"""A NIfTI header as it is stored, and whether its fields can be true, before any of it is interpreted."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from bundle.errors import InputError
from bundle.io.kinds import VOLUME_WANTED
from bundle.io.preflight import COMPLETE_WANTED
from bundle.io.stream import skip

HEADER_CLASSES: dict[int, type[Nifti1Header]] = {348: Nifti1Header, 540: Nifti2Header}
NIFTI2_LINE_ENDS = b"\r\n\x1a\n"
"""Of NIfTI-2's magic: a transfer as text changes them."""
WIDEST_VOXEL = 8
"""Bytes; float128 is another thing on every machine."""
LARGEST_OFFSET = 2**40


@dataclass(frozen=True, eq=False)
class Stored:
    """How a volume lies in its file.

    Attributes:
        header: the header as stored; of an MGH file, a NIfTI header that says the same.
        shape: all of its axes, three to seven.
        dtype: type of the voxels, an integer or a float of at most 64 bits.
        image: the file with the voxels.
        offset: byte of the first voxel.
        footer: how many bytes may follow the last voxel.
    """

    header: Nifti1Header
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    image: Path
    offset: int
    footer: int = 0


def read_nifti(stream: BinaryIO, path: Path, image: Path) -> Stored:
    """Return what the header at the start of ``stream`` says; nibabel's repairs are left out.

    Args:
        stream: uncompressed bytes of the file with the header.
        path: the file with the header.
        image: the file with the voxels, the same unless it is a .hdr/.img pair.

    Raises:
        InputError: when there is no header, or one that cannot be true.
    """
    header, rest = _parse(stream, path)
    _check_magic(header, path, is_pair=path != image)
    shape, dtype = _stored_shape(header, path), _stored_dtype(header, path)
    offset = _offset(header, path, is_pair=path != image)
    _check_extensions(stream, rest, header, path, None if path != image else offset)
    return Stored(header, shape, dtype, image, offset)


def one_volume(stored: Stored, path: Path, frame: int | None) -> tuple[Nifti1Header, tuple[int, ...]]:
    """Return the header and the shape of one 3D volume: three axes of at least 2 voxels, then any number of 1.

    Args:
        stored: the file.
        path: the file, for messages.
        frame: which volume of a file of four to seven axes, counted from 0 in the order in which they are stored.

    Raises:
        InputError: for every other shape, and for a frame that is not there.
    """
    shape, frames = stored.shape, prod(stored.shape[3:])
    wanted = "a single 3D volume is wanted"
    if len(shape) < 3 or min(shape) < 1 or min(shape[:3]) < 2:
        raise InputError(path, f"found shape {shape}", wanted, "shape")
    if frame is not None and not 0 <= frame < frames:
        found = f"found shape {shape}, {frames} frame{'s' * (frames > 1)}, not the one asked for ({frame})"
        raise InputError(path, found, f"--frame from 0 to {frames - 1} is wanted", "shape")
    if frames == 1:
        return stored.header, shape
    if frame is None:
        wanted = f"a single 3D volume, or --frame N with N from 0 to {frames - 1}, is wanted"
        raise InputError(path, f"found shape {shape}", wanted, "shape")
    header = stored.header.copy()
    header["dim"][0], header["dim"][4:] = 3, 1
    return header, shape[:3]


def _parse(stream: BinaryIO, path: Path) -> tuple[Nifti1Header, bytes]:
    """Return the header, and what was read beyond it."""
    block = stream.read(max(HEADER_CLASSES))
    for endianness, order in (("<", "little"), (">", "big")):
        size = int.from_bytes(block[:4], order)  # type: ignore[arg-type]
        if size in HEADER_CLASSES:
            if len(block) < size:
                found = f"found no NIfTI header: it ends after {len(block)} of {size} bytes"
                raise InputError(path, found, COMPLETE_WANTED, "damaged")
            return HEADER_CLASSES[size](block[:size], endianness=endianness, check=False), block[size:]
    raise InputError(path, "found no NIfTI header", VOLUME_WANTED)


def _check_magic(header: Nifti1Header, path: Path, is_pair: bool) -> None:
    magic = header["magic"].item()
    if "eol_check" in (header.template_dtype.names or ()) and header["eol_check"].tobytes() != NIFTI2_LINE_ENDS:
        found = "found a NIfTI-2 header with other line ends, as a transfer as text leaves them"
        raise InputError(path, found, "a file transferred as binary is wanted", "damaged")
    if magic == (header.pair_magic if is_pair else header.single_magic):
        return
    if magic == header.pair_magic:
        raise InputError(path, "found a detached header (.hdr/.img pair)", VOLUME_WANTED)
    if magic == header.single_magic:
        raise InputError(path, "found a whole NIfTI file named .hdr", "the extension .nii is wanted")
    raise InputError(path, "found an Analyze header, which does not tell left from right", VOLUME_WANTED)


def _stored_shape(header: Nifti1Header, path: Path) -> tuple[int, ...]:
    dim = [int(size) for size in header["dim"]]
    shape = tuple(dim[1 : dim[0] + 1])
    if not 1 <= dim[0] <= 7 or min(shape) < 1:
        axes = "" if 1 <= dim[0] <= 7 else f" of {dim[0]} axes"
        raise InputError(path, f"found shape {shape}{axes}", "a single 3D volume is wanted", "shape")
    return shape


def _stored_dtype(header: Nifti1Header, path: Path) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except KeyError:
        dtype = np.dtype("V")
    if dtype.kind not in "iuf" or dtype.itemsize > WIDEST_VOXEL:
        found = f"found voxels of type {header.get_value_label('datatype')}"
        raise InputError(path, found, "real numbers are wanted", "type")
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        found = f"found bitpix {int(header['bitpix'])} for voxels of type {dtype.name}"
        raise InputError(path, found, f"{8 * dtype.itemsize} is wanted", "damaged")
    return dtype


def _offset(header: Nifti1Header, path: Path, is_pair: bool) -> int:
    vox_offset = float(header["vox_offset"])
    first = 0 if is_pair else header.single_vox_offset
    if vox_offset == 0:  # unset
        return int(first)
    if not first <= vox_offset < LARGEST_OFFSET or vox_offset != int(vox_offset):
        found = f"found voxels at byte {vox_offset:g}"
        raise InputError(path, found, f"a whole number from {first} on is wanted", "damaged")
    return int(vox_offset)


def _check_extensions(stream: BinaryIO, rest: bytes, header: Nifti1Header, path: Path, end: int | None) -> None:
    """Walk the chain of extensions, which must not reach beyond the first voxel, or the end of a detached header."""
    position = int(header.sizeof_hdr) + 4
    rest += stream.read(max(0, 12 - len(rest)))
    extender, rest = rest[:4], rest[4:]
    while extender[:1] > b"\0" and (end is None or position + 8 <= end):
        rest += stream.read(max(0, 8 - len(rest)))
        size = int(np.frombuffer(rest[:4].ljust(4, b"\0"), f"{header.endianness}i4")[0])
        if size == 0:  # padding
            return
        inside = size >= 8 and (end is None or position + size <= end)
        skipped = min(size, len(rest)) if inside else 0
        if not inside or skipped + skip(stream, size - skipped) < size:
            found = f"found an extension of {size} bytes at byte {position}"
            raise InputError(path, found, COMPLETE_WANTED, "damaged")
        position, rest = position + size, rest[skipped:]
