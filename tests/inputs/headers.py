"""Headers whose fields cannot be true, or describe something else than one 3D volume of real numbers."""

from __future__ import annotations

import struct
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.inputs.case import Case, head, holding, plain, save, saved


def _shaped(*shape: int):
    data = np.resize(head(), shape).astype(np.int16)
    return saved(data)


def _typed(dtype):
    return saved(head().astype(dtype))


def _coloured(path: Path) -> None:
    save(path, np.zeros(head().shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


def _translucent(path: Path) -> None:
    save(path, np.zeros(head().shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")]))


def _with_extension(size: int, room: int = 32) -> bytes:
    """Return the scan with an extension that claims a size, between header and voxels."""
    header = nib.Nifti1Header(plain()[:348])
    header["vox_offset"] = 352 + room
    extension = struct.pack("<ii", size, 6).ljust(room, b"x")
    return bytes(header.binaryblock) + b"\1\0\0\0" + extension + plain()[352:]


def _mgh(position: int, value: bytes) -> bytes:
    block = bytearray(nib.MGHImage(head().astype(np.float32), np.eye(4)).to_bytes())
    block[position : position + len(value)] = value
    return bytes(block)


def _dim(name: str, *dim: int, says: str = "", code: str = "shape") -> Case:
    make = saved(dim=[*dim, *[1] * (8 - len(dim))])
    return Case(name, f"{name.replace(' ', '_')}.nii", make, code, says)


SHAPES = [
    Case("1D", "1d.nii.gz", _shaped(50), "shape", "found shape (50,)"),
    Case("2D", "2d.nii.gz", _shaped(20, 20), "shape", "found shape (20, 20); a single 3D volume"),
    Case("one slice", "slice.nii.gz", _shaped(20, 20, 1), "shape", "found shape (20, 20, 1)"),
    Case("one sagittal slice", "sagittal.nii.gz", _shaped(1, 20, 20), "shape", "found shape (1, 20, 20)"),
    Case("one coronal slice", "coronal.nii.gz", _shaped(20, 1, 20), "shape", "found shape (20, 1, 20)"),
    Case("4D", "4d.nii.gz", _shaped(9, 10, 11, 3), "shape", "or --frame N with N from 0 to 2"),
    Case("5D", "5d.nii.gz", _shaped(9, 10, 11, 1, 3), "shape", "or --frame N with N from 0 to 2"),
    Case("6D", "6d.nii.gz", _shaped(9, 10, 5, 1, 2, 2), "shape", "or --frame N with N from 0 to 3"),
    Case("7D", "7d.nii.gz", _shaped(9, 10, 5, 2, 1, 2, 2), "shape", "or --frame N with N from 0 to 7"),
    Case(
        "time series of slices", "slices.nii.gz", _shaped(9, 10, 1, 8), "shape", "found shape (9, 10, 1, 8); a single"
    ),
    Case("frame beyond the last", "beyond.nii.gz", _shaped(9, 10, 11, 3), "shape", "--frame from 0 to 2", {"frame": 3}),
    Case("frame 1 of a 3D file", "no_frame.nii.gz", saved(), "shape", "--frame from 0 to 0 is wanted", {"frame": 1}),
]
DIMS = [
    _dim("no axes", 0, 22, 24, 20, says="of 0 axes"),
    _dim("99 axes", 99, 22, 24, 20, says="of 99 axes"),
    _dim("negative number of axes", -3, 22, 24, 20, says="of -3 axes"),
    _dim("negative axis", 3, 22, -24, 20, says="found shape (22, -24, 20)"),
    _dim("zero axis", 3, 22, 0, 20, says="found shape (22, 0, 20)"),
    _dim("negative time", 4, 22, 24, 20, -1, says="found shape (22, 24, 20, -1)"),
    _dim("no time points", 4, 22, 24, 20, 0, says="found shape (22, 24, 20, 0)"),
    _dim("huge axes", 3, 32767, 32767, 32767, says="voxel bytes", code="damaged"),
    _dim("an axis too long", 3, 22, 24, 21, says="found at most 21120 of 22176 voxel bytes", code="damaged"),
    _dim("an axis too short", 3, 22, 24, 19, says="more bytes after the 20064", code="damaged"),
]
TYPES = [
    Case("RGB", "rgb.nii.gz", _coloured, "type", "found voxels of type RGB; real numbers are wanted"),
    Case("RGBA", "rgba.nii.gz", _translucent, "type", "found voxels of type RGBA"),
    Case("complex64", "complex64.nii.gz", _typed(np.complex64), "type", "found voxels of type complex64"),
    Case("complex128", "complex128.nii.gz", _typed(np.complex128), "type", "found voxels of type complex128"),
    Case("float128", "float128.nii", saved(datatype=1536, bitpix=128), "type", "found voxels of type float128"),
    Case("complex256", "complex256.nii", saved(datatype=2048, bitpix=256), "type", "real numbers are wanted"),
    Case("binary", "binary.nii", saved(datatype=1, bitpix=1), "type", "found voxels of type binary"),
    Case("no type", "untyped.nii", saved(datatype=0), "type", "real numbers are wanted"),
    Case("unknown type", "type_999.nii", saved(datatype=999), "type", "real numbers are wanted"),
    Case("bits of another type", "bitpix.nii", saved(bitpix=32), "damaged", "found bitpix 32 for voxels of type int16"),
    Case("no bits", "bitless.nii.gz", saved(bitpix=0), "damaged", "found bitpix 0 for voxels of type int16"),
    Case("wider type than stored", "wider.nii", saved(datatype=16, bitpix=32), "damaged", "of 42240 voxel bytes"),
    Case("narrower type than stored", "narrower.nii", saved(datatype=2, bitpix=8), "damaged", "more bytes after"),
]
OFFSETS = [
    Case("voxels in the header", "offset_100.nii", saved(vox_offset=100), "damaged", "found voxels at byte 100"),
    Case("voxels before the start", "offset_minus.nii", saved(vox_offset=-352), "damaged", "found voxels at byte -352"),
    Case("voxels at NaN", "offset_nan.nii.gz", saved(vox_offset=np.nan), "damaged", "found voxels at byte nan"),
    Case("voxels at infinity", "offset_inf.nii", saved(vox_offset=np.inf), "damaged", "found voxels at byte inf"),
    Case("voxels at half a byte", "offset_half.nii", saved(vox_offset=352.5), "damaged", "found voxels at byte 352.5"),
    Case("voxels beyond the end", "offset_far.nii", saved(vox_offset=1e6), "damaged", "voxel bytes"),
    Case(
        "voxels beyond any end", "offset_huge.nii.gz", saved(vox_offset=1e30), "damaged", "found voxels at byte 1e+30"
    ),
    Case(
        "voxels 16 bytes late", "offset_16.nii.gz", saved(vox_offset=368), "damaged", "found 21104 of 21120 voxel bytes"
    ),
]
OTHERS = [
    Case("size of header", "sizeof.nii", holding(b"\x5d" + plain()[1:]), "format", "found no NIfTI header"),
    Case("no magic", "magic.nii", holding(plain()[:344] + b"n+9\0" + plain()[348:]), "format", "an Analyze header"),
    Case("header of a pair", "pair.nii.gz", saved(magic=b"ni1"), "format", "found a detached header"),
    Case(
        "negative extension",
        "extension_minus.nii",
        holding(_with_extension(-16)),
        "damaged",
        "an extension of -16 bytes",
    ),
    Case("tiny extension", "extension_tiny.nii", holding(_with_extension(4)), "damaged", "an extension of 4 bytes"),
    Case(
        "endless extension", "extension_long.nii", holding(_with_extension(4096)), "damaged", "extension of 4096 bytes"
    ),
    Case("intercept Inf", "inter.nii", saved(scl_slope=1, scl_inter=np.inf), "damaged", "found unusable scaling"),
    Case("MGH of version 2", "version.mgh", holding(_mgh(0, b"\0\0\0\2")), "format", "found no MGH header"),
    Case("MGH of unknown type", "type.mgh", holding(_mgh(20, b"\0\0\0\7")), "type", "found voxels of MGH's type 7"),
    Case(
        "MGH with a negative axis",
        "axis.mgh",
        holding(_mgh(4, b"\xff\xff\xff\xf0")),
        "shape",
        "found shape (-16, 24, 20",
    ),
    Case(
        "MGH as a surface overlay", "overlay.mgh", holding(_mgh(4, b"\0\2\x80\0")), "shape", "found shape (163840, 24"
    ),
]
CASES = [*SHAPES, *DIMS, *TYPES, *OFFSETS, *OTHERS]
