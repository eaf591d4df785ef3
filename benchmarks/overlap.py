"""How label maps overlap, and what the manual labels of real scans leave out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IGNORED_CODE = 255
"""Voxels of this code in the manual labels are not scored."""
UNSCORED_CODES = (24,)
"""Structures that are drawn in part only in the manual labels."""


def dice_by_code(found: np.ndarray, expected: np.ndarray, codes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the Dice of each code of two label maps of one shape; NaN where neither has it."""
    size = int(max(found.max(), expected.max(), *codes)) + 1
    both = np.bincount(expected[expected == found], minlength=size)[codes]
    total = sum(np.bincount(labels.ravel(), minlength=size)[codes] for labels in (expected, found))
    with np.errstate(invalid="ignore"):
        return 2 * both / total
