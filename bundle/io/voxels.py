"""The voxels of a volume as they are stored, and whether they fit in memory, before they are scaled."""

from __future__ import annotations

from math import prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bundle.errors import InputError
from bundle.io.inspect import Inspection
from bundle.io.names import COMPRESSED_SUFFIXES, volume_suffix
from bundle.io.preflight import COMPLETE_WANTED
from bundle.io.stream import open_stream, skip
from bundle.machine import available_memory

MAX_DEFLATE_RATIO = 1032
"""No deflate stream expands by more (zlib's technical notes)."""
MAX_EXPANSION, LARGE = 250, 2**29
"""Scans of more bytes than the second that gzip makes smaller by more than the first are zeros almost everywhere."""
FLOAT_BYTES = 4
"""Of a voxel as intensity, beside the one that is stored."""


def stored_voxels(info: Inspection, is_scan: bool = False) -> NDArray[Any]:
    """Return the voxels of one volume as stored, before scaling; the file is read to its end.

    Args:
        info: the header.
        is_scan: refuse what is compressed further than an image with contrast can be.

    Raises:
        InputError: when voxels are missing, others follow, a checksum differs, or the volume does not fit in memory.
    """
    stored, image = info.stored, info.stored.image
    size, whole = prod(info.shape) * info.dtype.itemsize, prod(stored.shape) * info.dtype.itemsize
    _check_size(info, whole)
    if is_scan:
        _check_expansion(info, whole)
    _check_memory(info, size)
    with open_stream(image) as stream:
        before = stored.offset + info.frame * size
        passed = skip(stream, before)
        voxels = np.empty(size, dtype=np.uint8)
        read = _fill(stream, voxels)
        rest = skip(stream, whole - (info.frame + 1) * size)
        found = max(0, passed - stored.offset) + read + rest
        if passed < before or found < whole:
            raise InputError(image, f"found {found} of {whole} voxel bytes", COMPLETE_WANTED, "damaged")
        # Gzip compares its checksum at the end of the stream only.
        if skip(stream, stored.footer + 1) > stored.footer:
            after = f"found more bytes after the {whole} of the voxels that its header lists"
            raise InputError(image, after, "a file that ends with its last voxel is wanted", "damaged")
    return voxels.view(info.dtype).reshape(info.shape, order="F")


def _fill(stream: BinaryIO, voxels: NDArray[np.uint8]) -> int:
    view, read = voxels.data, 0
    while read < len(view) and (count := stream.readinto(view[read:])):  # type: ignore[attr-defined]
        read += count
    return read


def _check_size(info: Inspection, whole: int) -> None:
    image = info.stored.image
    ratio = MAX_DEFLATE_RATIO if volume_suffix(image) in COMPRESSED_SUFFIXES else 1
    at_most = image.stat().st_size * ratio - info.stored.offset
    if at_most < whole:
        found = f"found at most {max(at_most, 0)} of {whole} voxel bytes"
        raise InputError(image, found, COMPLETE_WANTED, "damaged")


def _check_expansion(info: Inspection, whole: int) -> None:
    ratio = whole / info.stored.image.stat().st_size
    if ratio > MAX_EXPANSION and whole > LARGE:
        found = f"found {ratio:.0f} bytes of voxels to each byte of the file, {whole / 2**20:.0f} MiB in all"
        raise InputError(info.path, found, f"a scan, with at most {MAX_EXPANSION} to each, is wanted", "memory")


def _check_memory(info: Inspection, size: int) -> None:
    needed = size + prod(info.shape) * FLOAT_BYTES
    free = available_memory(needed)
    if free is not None and needed > free:
        found = f"does not fit in memory: {needed / 2**20:.0f} MiB for {info.shape}, {free / 2**20:.0f} MiB are free"
        raise InputError(info.path, found, "a smaller volume, or more memory, is wanted", "memory")
