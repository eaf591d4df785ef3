"""How label maps overlap, and what the manual labels of real scans leave out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

IGNORED_CODE = 255
"""Voxels of this code in the manual labels are not scored."""
UNSCORED_CODES = (24,)
"""Structures that are drawn in part only in the manual labels."""


def voxels(path: str | Path) -> NDArray[Any]:
    """Return the voxels of a file, scaled as its header says."""
    image: Any = nib.load(path)
    return np.asarray(image.dataobj)


def dice_by_code(
    found: NDArray[Any], expected: NDArray[Any], codes: Sequence[int] | NDArray[Any]
) -> NDArray[np.float64]:
    """Return the Dice of each code of two label maps of one shape; NaN where neither has it."""
    size = int(max(found.max(), expected.max(), *codes)) + 1
    both = np.bincount(expected[expected == found], minlength=size)[codes]
    total = sum(np.bincount(labels.ravel(), minlength=size)[codes] for labels in (expected, found))
    with np.errstate(invalid="ignore"):
        return 2 * both / total
