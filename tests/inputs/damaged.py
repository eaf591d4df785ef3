"""Files that were whole once: cut off, changed, longer than they should be, or made to fill the memory."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.inputs.case import AFFINE, NIFTI1_VOXELS, Case, content, head, holding, plain, zipped

MEMBER = 1 << 26
"""Bytes of zeros that one gzip member of a bomb stands for."""


def _flipped(place: float, bit: int = 3) -> bytes:
    block = bytearray(zipped())
    block[int(place * len(block))] ^= 1 << bit
    return bytes(block)


def _wrong(position: int) -> bytes:
    """Return the compressed scan with a byte counted from its end inverted."""
    block = bytearray(zipped())
    block[position] ^= 0xFF
    return bytes(block)


def _mgz() -> bytes:
    return gzip.compress(nib.MGHImage(head().astype(np.float32), AFFINE).to_bytes(), mtime=0)


def _header(dims: tuple[int, ...], datatype: int, bitpix: int) -> bytes:
    header = nib.Nifti1Header(plain()[:348])
    header["dim"][: len(dims) + 1] = len(dims), *dims
    header["datatype"], header["bitpix"] = datatype, bitpix
    return bytes(header.binaryblock) + bytes(4)


def _bomb(path: Path) -> None:
    """A file of 5 MB that becomes 4.3 GB of zeros."""
    member = gzip.compress(bytes(MEMBER), 9)
    path.write_bytes(gzip.compress(_header((1024, 1024, 1024), 16, 32)) + member * 64)


def _endless(path: Path) -> None:
    """A sound scan with 64 GB of zeros behind its voxels."""
    path.write_bytes(zipped() + gzip.compress(bytes(MEMBER), 9) * 1000)


def _sparse(path: Path) -> None:
    """A file that is all there, 1 TB of holes."""
    path.write_bytes(_header((30000, 30000, 300), 16, 32))
    os.truncate(path, NIFTI1_VOXELS + 30000 * 30000 * 300 * 4)


def _no_content() -> bytes:
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"\x1f\x8b\x08" + bytes(7) + raw.compress(b"") + raw.flush() + struct.pack("<II", 0, 0)


def _cut(share: float) -> bytes:
    return zipped()[: int(share * len(zipped()))]


GZIP = "damaged or truncated gzip data"
CASES = [
    *(
        Case(f"compressed, cut to {share:.1%}", f"cut_{share:g}.nii.gz", holding(_cut(share)), "damaged", GZIP)
        for share in (0.005, 0.1, 0.5, 0.9, 0.999)
    ),
    Case("compressed, without its length", "no_length.nii.gz", holding(zipped()[:-4]), "damaged", GZIP),
    Case("compressed, without its checksum", "no_checksum.nii.gz", holding(zipped()[:-8]), "damaged", GZIP),
    Case("compressed, one byte short", "byte_short.nii.gz", holding(zipped()[:-1]), "damaged", GZIP),
    Case("two bytes of gzip", "magic.nii.gz", holding(zipped()[:2]), "damaged", GZIP),
    *(
        Case(f"compressed, a bit flipped at {place:.0%}", f"flip_{place:g}.nii.gz", holding(_flipped(place)), "damaged")
        for place in (0.1, 0.3, 0.5, 0.7, 0.9)
    ),
    Case("compressed, wrong checksum", "checksum.nii.gz", holding(_wrong(-6)), "damaged", GZIP),
    Case("compressed, wrong length", "length.nii.gz", holding(_wrong(-2)), "damaged", GZIP),
    Case("compressed, another method", "method.nii.gz", holding(b"\x1f\x8b\x07" + zipped()[3:]), "damaged", GZIP),
    Case("text after the gzip data", "tail.nii.gz", holding(zipped() + b"tail\n"), "damaged", "follow its end"),
    Case("zeros after the gzip data", "padded.nii.gz", holding(zipped() + bytes(512)), "damaged", "follow its end"),
    Case("a second scan after the first", "two.nii.gz", holding(zipped() * 2), "damaged", "more bytes after"),
    Case("gzip of nothing", "nothing.nii.gz", holding(_no_content()), "format", "found no NIfTI header"),
    Case(
        "compressed, voxels missing inside",
        "short.nii.gz",
        holding(gzip.compress(plain()[:-9])),
        "damaged",
        "found 211",
    ),
    Case(
        "compressed, bytes more inside", "long.nii.gz", holding(gzip.compress(plain() + b"x")), "damaged", "more bytes"
    ),
    Case("cut in the header", "header.nii", holding(plain()[:100]), "damaged", "it ends after 100 of 348 bytes"),
    Case("cut after the header", "head_alone.nii", holding(plain()[:348]), "damaged", "voxel bytes"),
    Case(
        "cut in the voxels", "half.nii", holding(plain()[:9000]), "damaged", "found at most 8648 of 21120 voxel bytes"
    ),
    Case("one byte short", "short.nii", holding(plain()[:-1]), "damaged", "found at most 21119 of 21120 voxel bytes"),
    Case("one byte too many", "long.nii", holding(plain() + b"\0"), "damaged", "more bytes after the 21120"),
    Case("MGZ, cut", "cut.mgz", holding(_mgz()[:3000]), "damaged", GZIP),
    Case("MGH, cut in the header", "cut.mgh", holding(gzip.decompress(_mgz())[:200]), "damaged", "200 of 284 bytes"),
    Case("MGH, cut in the voxels", "voxels.mgh", holding(gzip.decompress(_mgz())[:9000]), "damaged", "voxel bytes"),
    Case("bomb: 4 GB in 4 MB", "bomb.nii.gz", _bomb, "memory", "bytes of voxels to each byte of the file"),
    Case("bomb: 64 GB behind a scan", "endless.nii.gz", _endless, "damaged", "more bytes after"),
    Case("1 TB, with holes", "sparse.nii", _sparse, "memory", "does not fit in memory"),
    Case(
        "NIfTI-2 transferred as text",
        "ascii.nii",
        holding(content(image_class=nib.Nifti2Image).replace(b"\r\n\x1a\n", b"\n\x1a\n\0", 1)),
        "damaged",
        "a transfer as text",
    ),
]
