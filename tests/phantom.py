"""Label maps made by code: a head of nested ellipsoids with FreeSurfer codes on both sides."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (64, 72, 60)
SPACING = 3.0  # mm


def phantom_codes(shift: float = 0.0) -> np.ndarray:
    """Return codes (X, Y, Z), axes towards R, A, S: skin, skull, fluid, cortex, white matter, ventricles, stem."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    x = grid[0]
    radius = np.sqrt((x / 0.8) ** 2 + (grid[1] / 0.9) ** 2 + ((grid[2] - shift) / 0.85) ** 2)
    codes = np.zeros(SHAPE, dtype=np.int16)
    for limit, left, right in ((1.0, 511, 511), (0.92, 515, 515), (0.85, 24, 24), (0.8, 3, 42), (0.65, 2, 41)):
        codes[(radius < limit) & (x < 0)] = left
        codes[(radius < limit) & (x >= 0)] = right
    for centre, size, left, right in ((0.15, 0.12, 4, 43), (0.3, 0.1, 10, 49)):
        ball = np.sqrt((np.abs(x) - centre) ** 2 + (grid[1] - centre) ** 2 + grid[2] ** 2) < size
        codes[ball & (x < 0)] = left
        codes[ball & (x >= 0)] = right
    codes[(np.hypot(x, grid[1]) < 0.12) & (grid[2] < -0.3) & (radius < 0.8)] = 16
    return codes


def brain_codes() -> np.ndarray:
    """Return the codes of the phantom's brain alone, with a pocket of fluid that is drawn in part."""
    codes = phantom_codes()
    codes[(codes > 500) | (codes == 24)] = 0
    codes[30:33, 40:43, 30:33] = 24
    return codes


def write_phantoms(folder: Path, count: int = 2) -> Path:
    """Write label maps 1 to ``count`` and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    for index in range(count):
        nib.Nifti1Image(phantom_codes(0.03 * index), affine).to_filename(folder / f"phantom_{index + 1}.nii.gz")
    return folder
