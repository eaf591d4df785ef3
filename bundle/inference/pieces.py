"""The pieces that the voxels of a class are in, a few bytes a voxel: a structure may have a hundred million voxels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bundle.inference.logits import PART_VOXELS, Voxels

TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a corner belong together: thin structures would fall apart otherwise."""
PLANES_VOXELS = 4_000_000
"""Voxels of the planes that are looked through together."""
TOGETHER = 4
"""Times as many are those whose pieces are given together: a head is, of a large scan it is what is read of a file."""


class Pieces:
    """Pieces of a class, numbered from 1; two voxels that share a corner are in one.

    Args:
        is_class: where the class is, shape (X, Y, Z): a box of a grid.
        start: the first voxel of the box in the grid.

    Attributes:
        count: number of pieces.
        sizes: voxels of each piece, shape (count + 1,), 0 of piece 0; of fewer than two pieces nothing is kept.
    """

    def __init__(self, is_class: NDArray[np.bool_], start: Sequence[int]) -> None:
        numbered, self.count = ndimage.label(is_class, TOUCHING)
        self.sizes = np.zeros(self.count + 1, dtype=np.int64)
        self._start, self._shape = np.array(start)[:, None], numbered.shape
        self._parts: list[tuple[int, NDArray[np.int32], NDArray[np.int32]]] = []
        planes = max(1, PLANES_VOXELS // prod(numbered.shape[1:]))
        for first in range(0, len(numbered) if self.count > 1 else 0, planes):
            part = numbered[first : first + planes].reshape(-1)
            places = np.flatnonzero(part).astype(np.int32)  # few of the voxels of a box are of its class
            if places.size:
                self._parts.append((first, places, part[places]))
                self.sizes += np.bincount(self._parts[-1][2], minlength=len(self.sizes))

    def voxels(self, chosen: NDArray[np.bool_]) -> Iterator[tuple[Voxels, NDArray[np.int32]]]:
        """Yield the places in the grid of the voxels of some pieces, and which they are in, so many at a time.

        Args:
            chosen: which pieces, shape (count + 1,).
        """
        waiting: list[tuple[Voxels, NDArray[np.int32]]] = []
        for first, places, pieces in self._parts:
            for begin in range(0, len(places), PART_VOXELS):
                part = slice(begin, begin + PART_VOXELS)
                inside = chosen[pieces[part]]
                if not inside.any():
                    continue
                voxels = np.array(np.unravel_index(places[part][inside], self._shape)) + self._start
                voxels[0] += first
                waiting.append((voxels, pieces[part][inside]))
                if len(waiting) == TOGETHER or sum(len(numbers) for _, numbers in waiting) >= PART_VOXELS:
                    yield _joined(waiting)
                    waiting = []
        if waiting:
            yield _joined(waiting)


def _joined(parts: list[tuple[Voxels, NDArray[np.int32]]]) -> tuple[Voxels, NDArray[np.int32]]:
    voxels, numbers = zip(*parts, strict=True)
    return np.concatenate(voxels, axis=1), np.concatenate(numbers)
