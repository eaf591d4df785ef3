"""The four likeliest classes of each voxel: what is kept of planes whose logits were let go.

Stray pieces can only be told once a whole structure has been seen. Their heirs, and what the scan's voxels around them
become, follow from four classes but where a fifth one matters: in 2 to 6 voxels of a head that is cut into windows,
where three would err in 14 to 37 and two in 36 to 85 (``tests/bundle/inference/test_stream_strays.py``).
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.inference.aligned import Affine, Axis, aligned_axes
from bundle.inference.confidence import Margins
from bundle.inference.logits import PART_VOXELS, Voxels, voxels_by_planes
from bundle.inference.ranking import Box, Ranking
from bundle.inference.restore import grid_positions
from bundle.inference.winners import UINT8_CLASSES
from bundle.io.scratch import IN_MEMORY, out_of_memory, scratch_array

FINALISTS = 4
SURE = 7.0
"""Lead of the background's logit from which on a voxel's other classes are not looked at: each is below 0.1 %."""
LEAST = -30.0
"""Logarithm of the probability of a class that is not among the four."""
FORBIDDEN = 1.0
"""The logarithm l of a class that was forbidden is kept as 1 - l, which no other's is."""


class Finalists:
    """Classes and logarithms of their probabilities of each voxel of a grid, the likeliest first; votes of its pieces.

    Args:
        classes: number of classes.
        shape: of the grid, the axis first along which its planes come.
    """

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        self.kept = min(FINALISTS, classes)
        self.channels = scratch_array((self.kept, *shape), np.uint8 if classes <= UINT8_CLASSES else np.int16)
        self.logs = scratch_array((self.kept, *shape), np.float16)

    @staticmethod
    def bytes_in_memory(classes: int, voxels: int) -> int:
        """Return how much memory those of a grid take: what is large lies in a file."""
        kept = min(FINALISTS, classes) * voxels
        sizes = (kept * (1 if classes <= UINT8_CLASSES else 2), 2 * kept)
        return sum(size for size in sizes if size <= IN_MEMORY)

    def add(self, place: Box, ranking: Ranking, winners: Tensor, lead: Tensor, second: Tensor) -> None:
        """Note the voxels of a box.

        Args:
            place: the box.
            ranking: of its voxels, whose first and second class were asked for.
            winners: the first class, shape (K,).
            lead: the logarithm of the second one's odds to it, shape (K,).
            second: the second class, shape (K,).
        """
        sure = (winners == 0) & (lead < -SURE)
        everywhere = bool(sure.all())
        found = [(winners, torch.zeros_like(lead)), (second, lead)][: self.kept]
        while len(found) < self.kept:
            found.append(found[-1] if everywhere else ranking.next())
        total = 0 if everywhere else ranking.total().log()
        for slot, (channels, logs) in enumerate(found):
            logs = (logs - total).masked_fill_(sure, -torch.inf if slot else 0.0)
            shape = self.channels[slot][place].shape
            self.channels[slot][place] = channels.masked_fill(sure, 0).view(shape).cpu().numpy()
            self.logs[slot][place] = logs.half().view(shape).cpu().numpy()

    def let_go(self) -> None:
        """Let what is noted go from memory, where it lies in a file."""
        out_of_memory(self.channels)
        out_of_memory(self.logs)

    def winners(self) -> NDArray[Any]:
        """Return the likeliest class of each voxel, a copy."""
        return np.array(self.channels[0])

    def margins(self, channel: int, voxels: Voxels) -> NDArray[np.float64]:
        """Return by how much the logit of a class exceeds the next one at its voxels, shape (K,)."""
        channels, logs = self._at(voxels)
        own = np.where(channels == channel, logs, -np.inf).max(axis=0)
        others = np.where((channels == channel) | (logs > 0), LEAST, logs).max(axis=0).clip(min=LEAST)
        self.let_go()
        return np.asarray(own - others, dtype=np.float64)

    def forbid(self, channel: int, voxels: Voxels) -> NDArray[Any]:
        """Take a class from voxels and return who wins there now, shape (K,)."""
        channels = self._at(voxels)[0]
        place = ((channels == channel).argmax(axis=0), *voxels)
        self.logs[place] = FORBIDDEN - self.logs[place]
        heirs = _heirs(channels, self._at(voxels)[1])
        self.let_go()
        return np.asarray(heirs, dtype=self.channels.dtype)

    def correct(self, margins: Margins, changed: NDArray[np.bool_]) -> None:
        """Let the voxels whose winner changed count for their heirs."""
        for voxels in voxels_by_planes(changed):
            channels, logs = self._at(voxels)
            for now, sign in ((np.where(logs > 0, FORBIDDEN - logs, logs), -1), (logs, 1)):
                odds = np.sort(_odds(now), axis=0)
                lead = odds[-1] - (odds[-2] if self.kept > 1 else 0)
                margins.count(torch.from_numpy(_heirs(channels, now)), torch.from_numpy(lead), sign)
            self.let_go()

    def _at(self, voxels: Voxels) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return classes and logarithms at voxels, shape (4, K) both."""
        place = (slice(None), *voxels)
        return self.channels[place].astype(np.int64), self.logs[place].astype(np.float32)

    def restore(self, changed: NDArray[np.bool_], to_grid: Affine, channels: Tensor) -> None:
        """Write the class of each voxel of the scan that has a voxel of the grid beside it whose winner changed.

        Args:
            changed: where a winner changed, shape of the grid.
            to_grid: voxel of the scan to voxel of the grid.
            channels: shape of the scan, written to.
        """
        cells = _beside(changed)
        axes = aligned_axes(to_grid, torch.Size(changed.shape), tuple(channels.shape))
        found = _voxels_along(axes, cells) if axes else _voxels_anywhere(to_grid, cells, tuple(channels.shape))
        for voxels, base, fraction in found:
            for part in np.array_split(np.arange(voxels.shape[1]), 1 + voxels.shape[1] // PART_VOXELS):
                winner = self._interpolated(base[:, part], fraction[:, part])
                place = tuple(torch.from_numpy(voxels[:, part]).to(channels.device))
                channels[place] = torch.from_numpy(winner).to(channels)
                self.let_go()

    def _interpolated(self, base: Voxels, fraction: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the likeliest class between voxels of the grid, shape (K,)."""
        classes, shares = [], []
        for corner in product((0, 1), repeat=3):
            step = np.array(corner)[:, None]
            channels, logs = self._at(base + step)
            classes.append(channels)
            shares.append(_odds(logs) * np.where(step == 1, fraction, 1 - fraction).prod(axis=0))
        named, share = np.concatenate(classes), np.concatenate(shares)  # (32, K)
        totals = np.stack([np.where(named == name, share, 0).sum(axis=0) for name in named])
        # Of equal ones the first class wins, as in argmax.
        first = np.where(totals >= totals.max(axis=0), named, np.iinfo(np.int64).max).min(axis=0)
        return np.asarray(first, dtype=np.int64)


def _heirs(channels: NDArray[np.int64], logs: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the likeliest class, the background where none is left, shape (K,)."""
    allowed = np.where(logs > 0, -np.inf, logs)
    best = allowed.argmax(axis=0)[None]
    heirs = np.take_along_axis(channels, best, axis=0)[0]
    return np.asarray(np.where(np.isfinite(np.take_along_axis(allowed, best, axis=0)[0]), heirs, 0), dtype=np.int64)


def _odds(logs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities, of which those of forbidden classes went to all others, shape (4, K)."""
    forbidden = logs > 0
    odds = np.exp(np.where(forbidden, -np.inf, logs))
    lost = np.exp(np.where(forbidden, FORBIDDEN - logs, -np.inf)).sum(axis=0)
    first = np.where(forbidden, FORBIDDEN - logs, -np.inf).max(axis=0)
    left = np.where(forbidden.sum(axis=0) == 1, -np.expm1(first), 1 - lost)
    left = np.where(forbidden.any(axis=0), left, 1)
    return np.asarray(odds / np.maximum(left, odds.sum(axis=0)).clip(min=1e-30), dtype=np.float32)


def _beside(changed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the cells of eight voxels one of which changed, each axis shorter by one."""
    for axis in range(3):
        low = np.take(changed, range(changed.shape[axis] - 1), axis=axis)
        changed = low | np.take(changed, range(1, changed.shape[axis]), axis=axis)
    return changed


Found = tuple[Voxels, Voxels, NDArray[np.float32]]


def _voxels_along(axes: list[Axis], cells: NDArray[np.bool_]) -> Any:
    """Yield the scan's voxels in cells, their lowest neighbours and the ways to the next, shape (3, K) each."""
    if any(axis.end == axis.first for axis in axes):
        return
    lower = [axis.lower[axis.first : axis.end].numpy() for axis in axes]
    for start in range(len(lower[0])):
        plane = cells[lower[0][start]]
        if not plane.any():
            continue
        second, third = np.nonzero(plane[np.ix_(lower[1], lower[2])])
        index = [np.full(len(second), start), second, third]
        at = [places + axis.first for places, axis in zip(index, axes, strict=True)]
        voxels = np.empty((3, len(second)), dtype=np.int64)
        for axis, places in zip(axes, at, strict=True):
            voxels[axis.scan_axis] = places
        fraction = np.stack([axis.fraction.numpy()[places] for axis, places in zip(axes, at, strict=True)])
        yield voxels, np.stack([low[places] for low, places in zip(lower, index, strict=True)]), fraction


def _voxels_anywhere(to_grid: Affine, cells: NDArray[np.bool_], shape: tuple[int, ...]) -> Any:
    """Yield what ``_voxels_along`` does for a scan that lies on the grid in any way."""
    last = np.array(cells.shape)[:, None]
    planes = max(1, PART_VOXELS // max(1, prod(shape[1:])))
    for start in range(0, shape[0], planes):
        box = [(start, min(start + planes, shape[0])), (0, shape[1]), (0, shape[2])]
        position = grid_positions(to_grid, box, torch.device("cpu")).flatten(1).numpy()
        inside = ((position >= -0.5) & (position <= last + 0.5)).all(axis=0)
        position = position.clip(0, last)
        base = np.minimum(np.floor(position), last - 1).astype(np.int64)
        chosen = np.flatnonzero(inside & cells[tuple(base)])
        voxels = np.array(np.unravel_index(chosen, [end - first for first, end in box]))
        voxels[0] += start
        yield voxels, base[:, chosen], (position - base)[:, chosen].astype(np.float32)
