"""Results of small phantoms, written by the real writer, without a network."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from bundle.labels import DEFAULT_TABLE, read_labels
from bundle.results import OutputPaths, save_outputs
from bundle.results.reference import read_references
from tests.phantom import SPACING, phantom_codes

AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])
AFFINE[:3, 3] = (-96.0, -108.0, -90.0)
HIPPOCAMPUS, LOW, HIGH = 17, (24, 30, 26), (28, 36, 30)
"""The only structure of the left hippocampus's code, as voxels: a box."""


def head(shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a scan, float32, and its label map, both (64, 72, 60), axes towards R, A, S."""
    codes = phantom_codes(shift)
    image = np.select([codes == 0, codes == 24, np.isin(codes, (2, 41))], [0, 200, 800], default=550.0)
    codes[codes > 500] = 0
    codes[tuple(slice(low, high) for low, high in zip(LOW, HIGH, strict=True))] = HIPPOCAMPUS
    return image.astype(np.float32), codes


def write_result(folder: Path, scans: Path, name: str, shift: float = 0.0) -> OutputPaths:
    """Write a scan into one folder and its results into another, and return where these are."""
    scans.mkdir(parents=True, exist_ok=True)
    image, codes = head(shift)
    scan = scans / f"{name}.nii.gz"
    nib.Nifti1Image(image, AFFINE).to_filename(scan)
    return save_outputs(codes, scan, folder, read_labels(DEFAULT_TABLE), references=read_references())
