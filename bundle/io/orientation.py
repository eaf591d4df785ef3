"""Turn volumes so that their axes run to the right, to the front and up."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def ras_affine(affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the affine of a volume of a shape after :func:`to_ras`, (4, 4)."""
    turned = inv_ornt_aff(_orientation(affine), shape)
    return np.asarray(affine @ turned)


def to_ras(volume: NDArray[Scalar], affine: NDArray[np.float64]) -> NDArray[Scalar]:
    """Return a view of a volume (X, Y, Z) with the axes permuted and flipped that are closest to R, A, S.

    No voxel is interpolated: the axes of an oblique volume stay oblique.

    Args:
        volume: voxels in the file's order.
        affine: voxel to world, RAS+, (4, 4).
    """
    turned: NDArray[Scalar] = apply_orientation(volume, _orientation(affine))
    return turned


def _orientation(affine: NDArray[np.float64]) -> NDArray[Any]:
    orientation: NDArray[Any] = io_orientation(affine)
    return orientation
