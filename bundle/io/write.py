"""Write a label map onto the voxels of the scan it belongs to."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

from bundle.errors import OptionError
from bundle.io.forms import AFFINE_FORMS, FormDifference, has_both
from bundle.io.inspect import inspect_volume
from bundle.io.names import NIFTI_SUFFIXES, volume_suffix
from bundle.io.voxels import stored_voxels
from bundle.io.whole import refuse_existing, whole_file

GEOMETRY_FIELDS = (
    *("dim", "pixdim", "xyzt_units", "sform_code", "qform_code"),
    *("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)
INT16_CODE = 4
LABEL_INTENT = 1002
COMPRESSION_LEVEL = 6


def write_label_map(
    labels: NDArray[Any],
    source: str | Path,
    path: str | Path,
    overwrite: bool = False,
    frame: int | None = None,
    trust: str = "",
) -> Path:
    """Write labels as int16 NIfTI with exactly the shape, affines, codes, units and pixdim of ``source``.

    The geometry fields are the source's bytes, in its NIfTI version and byte order (NIfTI-1 for an MGH file); names,
    descriptions and extensions of the source, which may identify a patient, are left out. The file is written, read
    back and compared before it gets its name, so that no half-written file is ever seen. Equal labels give equal bytes.

    Args:
        labels: whole numbers within int16, (X, Y, Z) or the source's shape.
        source: the scan.
        path: the file to write, .nii or .nii.gz; missing folders are made.
        overwrite: replace an existing file.
        frame: which volume of the source it is, where that has more than three axes; the label map is then 3D.
        trust: ``"sform"`` or ``"qform"``, which the labels were made by. Where the other contradicts it, or cannot be
            used, its code becomes 0: the label map says one thing.

    Raises:
        InputError: when ``source`` is no 3D NIfTI or MGH file.
        ValueError: when the labels have another shape or do not fit int16, or ``path`` is no NIfTI name or the scan.
        ExistsError: when ``path`` exists and ``overwrite`` is False.
        OSError: when the file cannot be written, or does not read back as written.
    """
    source, path = Path(source), Path(path)
    info = inspect_volume(source, frame)
    both = bool(trust) and has_both(info.header)
    scan = trusted_header(info.header, trust, info.place(trust=trust).form_difference if both else None)
    # In the file's order from here on: NumPy takes three times as long to turn what it writes out as bytes.
    voxels = np.asfortranarray(_label_voxels(labels, info.shape, source)).astype(f"{scan.endianness}i2")
    _check_target(path, source, overwrite)
    header = label_header(scan)

    with whole_file(path, overwrite) as unfinished:
        _write(unfinished, header.binaryblock + bytes(4) + voxels.tobytes("F"))
        _verify(unfinished, path, scan, voxels)
    return path


def trusted_header(scan: Nifti1Header, trust: str, difference: FormDifference | None) -> Nifti1Header:
    """Return the header with the code of a form set to 0 that is not to be believed.

    Args:
        scan: header of the scan.
        trust: which form the labels were made by; empty for the sform, or the only one.
        difference: between the two, ``None`` where one of them cannot be used.
    """
    header: Nifti1Header = scan.copy()
    if trust and has_both(header) and (difference is None or difference.contradicts):
        other = next(form for form in AFFINE_FORMS if form != trust)
        header[f"{other}_code"] = 0
    return header


def _label_voxels(labels: NDArray[Any], shape: tuple[int, ...], source: Path) -> NDArray[Any]:
    """Return the labels, checked, in the file's shape."""
    labels = np.asarray(labels)
    if labels.shape not in (shape, shape[:3]):
        raise ValueError(f"labels: found shape {labels.shape}; {shape[:3]} of {source} is wanted")
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"labels: found type {labels.dtype}; whole numbers are wanted")
    if labels.dtype.kind == "f" and not (labels == np.rint(labels)).all():
        raise ValueError("labels: found fractions or NaN; whole numbers are wanted")
    limits = np.iinfo(np.int16)
    if labels.min() < limits.min or labels.max() > limits.max:
        raise ValueError(f"labels: found {labels.min()} to {labels.max()}; {limits.min} to {limits.max} is wanted")
    return labels.reshape(shape)


def _check_target(path: Path, source: Path, overwrite: bool) -> None:
    if volume_suffix(path) not in NIFTI_SUFFIXES:
        raise OptionError(path, "found another extension", f"{' or '.join(NIFTI_SUFFIXES)} is wanted")
    if path.exists() and path.samefile(source):
        raise OptionError(path, "is the scan itself", "another name is wanted")
    if not overwrite:
        refuse_existing([path])


def label_header(scan: Nifti1Header) -> Nifti1Header:
    """Return a fresh header with the scan's geometry, version and byte order."""
    header = type(scan)(endianness=scan.endianness)
    for field in GEOMETRY_FIELDS:
        header[field] = scan[field]
    header["datatype"], header["bitpix"] = INT16_CODE, 16
    header["vox_offset"] = header.single_vox_offset
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["intent_code"] = LABEL_INTENT
    header["descrip"] = b"segmentation"
    return header


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        if volume_suffix(path) == ".nii.gz":
            with gzip.GzipFile("", "wb", COMPRESSION_LEVEL, file, mtime=0) as stream:
                stream.write(content)
        else:
            file.write(content)


def _verify(partial: Path, path: Path, scan: Nifti1Header, voxels: NDArray[Any]) -> None:
    info = inspect_volume(partial)
    header, written = info.header, stored_voxels(info)
    changed = [field for field in GEOMETRY_FIELDS if header[field].tobytes() != scan[field].tobytes()]
    if changed or not np.array_equal(written, voxels):
        raise OSError(f"{path}: reads back with other {', '.join(changed) or 'voxels'}; the file as written is wanted")
