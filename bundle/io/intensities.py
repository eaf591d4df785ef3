"""Whether the values of a scan can be those of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.errors import InputError

LARGEST_INTENSITY = 1e37
"""A tenth of float32's largest number: differences of intensities have to fit, too."""
LEAST_SLICES = 2
"""How many slices along each axis have to differ from the constant rest: a single hot slab, row or voxel is no head."""


def zero_nonfinite(data: NDArray[Any]) -> int:
    """Set NaN and Inf to 0, in place, and return how many there were."""
    if data.dtype.kind != "f":
        return 0
    unusable = ~np.isfinite(data)
    data[unusable] = 0
    return int(np.count_nonzero(unusable))


def check_finite(data: NDArray[Any], path: Path) -> None:
    """Refuse values that are NaN or Inf as they are stored.

    Raises:
        InputError: saying how many there are.
    """
    unusable = 0 if data.dtype.kind != "f" else data.size - int(np.count_nonzero(np.isfinite(data)))
    if unusable:
        found = f"found {unusable} voxels that are NaN or Inf"
        raise InputError(path, found, "finite intensities, or --fill-nonfinite, are wanted", "intensities")


def check_contrast(data: NDArray[np.float32], path: Path) -> None:
    """Refuse intensities that do not fit float32, and an image without contrast in two slices along each axis.

    Args:
        data: intensities (X, Y, Z); what did not fit is Inf.
        path: the file, for messages.

    Raises:
        InputError: saying what is wrong.
    """
    low, high = float(data.min()), float(data.max())
    if not max(-low, high) <= LARGEST_INTENSITY:
        found = f"found {np.count_nonzero(~(np.abs(data) <= LARGEST_INTENSITY))} voxels beyond {LARGEST_INTENSITY:g}"
        raise InputError(path, found, "intensities that fit float32 are wanted", "intensities")
    if low == high:
        found = f"found the value {low:g} in every voxel"
        raise InputError(path, found, "an image with contrast is wanted", "intensities")
    for axis in range(3):
        others = tuple({0, 1, 2} - {axis})
        smallest, largest = data.min(axis=others), data.max(axis=others)
        constant = smallest[smallest == largest]
        if not len(constant):
            continue
        values, counts = np.unique(constant, return_counts=True)
        rest = values[counts.argmax()]
        varied = int(np.count_nonzero((smallest != rest) | (largest != rest)))
        if varied < LEAST_SLICES:
            found = f"found the value {rest:g} in all but {varied} of {data.shape[axis]} slices along axis {axis}"
            raise InputError(path, found, "an image with contrast in several slices is wanted", "intensities")
