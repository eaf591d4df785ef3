"""Logits of the voxels of a box: held, or computed from features wherever they are looked at.

A network whose last layer is linear (``bundle.engines.head``) gives features, of which there are fewer than classes.
Logits of all classes then exist for some voxels at a time, which stay in a processor's cache
(``tests/bundle/inference/test_logits.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.engines.head import Head
from bundle.inference.ranking import Box, Ranking, voxel_boxes
from bundle.inference.winners import UINT8_CLASSES, winners_of

Voxels = NDArray[np.int64]
"""Indices, shape (3, K)."""
PART_VOXELS = 500_000
"""Voxels whose classes are looked at together: a structure may have a hundred million."""


def voxels_by_planes(chosen: NDArray[np.bool_]) -> Iterator[Voxels]:
    """Yield the indices of the chosen voxels of a grid (X, Y, Z), those of some planes at a time."""
    planes = max(1, PART_VOXELS // max(1, prod(chosen.shape[1:])))
    for start in range(0, len(chosen), planes):
        voxels = np.array(np.nonzero(chosen[start : start + planes]))
        voxels[0] += start
        if voxels.size:
            yield voxels


class Logits:
    """Logits of the voxels of a box.

    Args:
        values: logits, or the features that ``head`` maps to them, shape (channels, X, Y, Z).
        head: the last layer of the network, ``None`` for logits.

    Attributes:
        shape: (classes, X, Y, Z).
        device: where they are.
        dtype: of the labels that the classes become: uint8, or int16 where they do not fit.
    """

    def __init__(self, values: Tensor, head: Head | None = None) -> None:
        self.values, self.head = values, head
        self.classes = len(values if head is None else head)
        self.shape = (self.classes, *values.shape[1:])
        self.device = values.device
        self.dtype = torch.uint8 if self.classes <= UINT8_CLASSES else torch.int16
        self._forbidden: list[tuple[int, Voxels]] = []

    @property
    def plane_bytes(self) -> int:
        """Bytes of the logits of a plane along the first axis, in float32."""
        return 4 * self.classes * int(prod(self.shape[2:]))

    def of(self, *box: slice) -> Tensor:
        """Return the logits of a part, shape (classes, x, y, z): a view where they are held."""
        part = self.values[(slice(None), *box)]
        if self.head is None:
            return part
        logits: Tensor = self.head(part.flatten(1)).view(self.classes, *part.shape[1:])
        for channel, voxels in self._forbidden:
            logits[channel][self._inside(voxels, box)] = -torch.inf
        return logits

    def at(self, voxels: Voxels) -> Tensor:
        """Return the logits of voxels, shape (classes, K), a copy."""
        x, y, z = torch.from_numpy(voxels).to(self.device)
        values = self.values[:, x, y, z]
        if self.head is None:
            return values
        logits: Tensor = self.head(values)
        flat = self._flat(voxels)
        for channel, forbidden in self._forbidden:
            logits[channel, torch.from_numpy(np.isin(flat, self._flat(forbidden))).to(self.device)] = -torch.inf
        return logits

    def forbid(self, channel: int, voxels: Voxels) -> None:
        """Set a class to minus infinity at voxels, for good."""
        if self.head is not None:
            self._forbidden.append((channel, voxels))
            return
        x, y, z = torch.from_numpy(voxels).to(self.device)
        self.values[channel, x, y, z] = -torch.inf

    def voxel_boxes(self, first_plane: int = 0) -> Iterator[Box]:
        """Yield boxes of voxels from a plane on that are looked at together, see ``ranking.voxel_boxes``."""
        for planes, *across in voxel_boxes(self.values[:, first_plane:], self.classes):
            yield slice(planes.start + first_plane, planes.stop + first_plane), *across

    def winners(self) -> Tensor:
        """Return the class with the largest logit of each voxel, shape (X, Y, Z), see ``winners_of``."""
        if self.head is None:
            return winners_of(self.values)
        winners = torch.empty(self.shape[1:], dtype=self.dtype, device=self.device)
        for box in self.voxel_boxes():
            part = winners[box]
            part.copy_(Ranking(self.of(*box).flatten(1)).first().view(part.shape))
        return winners

    def _flat(self, voxels: Voxels) -> NDArray[np.int64]:
        return np.asarray(np.ravel_multi_index(tuple(voxels), tuple(self.shape[1:])), dtype=np.int64)

    @staticmethod
    def _inside(voxels: Voxels, box: Box) -> tuple[Tensor, ...]:
        """Return the places in a box of those voxels that lie there."""
        low = np.array([[part.start or 0] for part in box])
        high = np.array([[np.iinfo(np.int64).max if part.stop is None else part.stop] for part in box])
        inside = ((voxels >= low) & (voxels < high)).all(axis=0)
        return tuple(torch.from_numpy(places) for places in voxels[:, inside] - low)
