"""Real NIfTI files for tests: one anatomy in six geometries, and headers with any field changed."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

SLICE_FACTOR = 3
STALE_PIXDIM = 1.001


@dataclass(frozen=True)
class Geometry:
    """Voxels with their affine, and the header fields they are stored with."""

    data: np.ndarray
    affine: np.ndarray
    sform_code: int
    qform_code: int
    units: tuple[str, str] = ("mm", "sec")
    pixdim_factor: float = 1.0


def make_geometries(folder: Path, data: np.ndarray, affine_ras: np.ndarray, order: int = 1) -> dict[str, Path]:
    """Write ``data`` as ``folder/<name>.nii.gz`` in six geometries; what lies at a world position stays there.

    - ``ras``: as given; sform 1, qform 1.
    - ``lps``: x and y flipped; sform 2, qform 1.
    - ``oblique``: resampled to a grid turned by 15 degrees about x and y; sform 0, qform 1.
    - ``left_handed``: sagittal slices with x flipped (axes A, S, L), determinant below 0; sform 4, qform 0.
    - ``anisotropic``: slices three times as thick; sform 3, qform 2, units unknown.
    - ``stale_pixdim``: pixdim, and so the qform, 0.1 % larger than the sform; sform 2, qform 2.

    Args:
        folder: where to write; it is made when missing.
        data: image or label map (X, Y, Z), at least (2, 2, 6); its type is kept.
        affine_ras: voxel to world of ``data``, axes towards R, A, S.
        order: 1 interpolates and averages (images), 0 takes the nearest voxel and the middle slice (label maps).
    """
    rotated, rotated_affine = _rotate(data, affine_ras, order)
    thick, thick_affine = _thicken(data, affine_ras, order)
    sagittal, sagittal_affine = data.transpose(1, 2, 0), affine_ras[:, [1, 2, 0, 3]]
    geometries = {
        "ras": Geometry(data, affine_ras, 1, 1),
        "lps": Geometry(*_flip(*_flip(data, affine_ras, 0), 1), 2, 1),
        "oblique": Geometry(rotated, rotated_affine, 0, 1),
        "left_handed": Geometry(*_flip(sagittal, sagittal_affine, 2), 4, 0, ("mm", "unknown")),
        "anisotropic": Geometry(thick, thick_affine, 3, 2, ("unknown", "unknown")),
        "stale_pixdim": Geometry(data, affine_ras, 2, 2, pixdim_factor=STALE_PIXDIM),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _save(geometry, folder / f"{name}.nii.gz") for name, geometry in geometries.items()}


def patch_header(path: Path, **fields: object) -> Path:
    """Overwrite header fields of a stored NIfTI-1 file, unchecked and without touching its voxels."""
    gz = path.suffix == ".gz"
    content = gzip.decompress(path.read_bytes()) if gz else path.read_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    content = header.binaryblock + content[348:]
    path.write_bytes(gzip.compress(content) if gz else content)
    return path


def _save(geometry: Geometry, path: Path) -> Path:
    image = nib.Nifti1Image(np.ascontiguousarray(geometry.data), None)
    header = image.header
    header.set_qform(geometry.affine, geometry.qform_code)
    header.set_sform(geometry.affine, geometry.sform_code)
    header.set_xyzt_units(*geometry.units)
    header["pixdim"][1:4] *= geometry.pixdim_factor
    nib.save(image, path)
    return path


def _flip(data: np.ndarray, affine: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    to_old = np.eye(4)
    to_old[axis, axis], to_old[axis, 3] = -1, data.shape[axis] - 1
    return np.flip(data, axis), affine @ to_old


def _rotate(data: np.ndarray, affine: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn the grid about its centre; voxels from outside are the minimum."""
    centre = affine @ [*(np.array(data.shape) - 1) / 2, 1]
    rotated = affine.copy()
    rotated[:3, :3] = Rotation.from_euler("xy", [15, 15], degrees=True).as_matrix() @ affine[:3, :3]
    rotated[:3, 3] += (centre - rotated @ [*(np.array(data.shape) - 1) / 2, 1])[:3]
    to_old = np.linalg.inv(affine) @ rotated
    return affine_transform(data, to_old, order=order, cval=data.min(), output=data.dtype), rotated


def _thicken(data: np.ndarray, affine: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Merge groups of slices along z; a rest is dropped."""
    slices = data.shape[2] // SLICE_FACTOR
    groups = data[..., : slices * SLICE_FACTOR].reshape(*data.shape[:2], slices, SLICE_FACTOR)
    merged = groups.mean(axis=3).astype(data.dtype) if order else groups[..., SLICE_FACTOR // 2]
    to_old = np.diag([1.0, 1, SLICE_FACTOR, 1])
    to_old[2, 3] = (SLICE_FACTOR - 1) / 2
    return merged, affine @ to_old
