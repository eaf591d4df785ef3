"""The way back to a scan whose axes run along those of the network's grid: axis by axis, class by class.

Nearly every scan is such a one, since preprocessing turns and resamples along the scan's own axes. Linear interpolation
then separates into one pass for each axis, and a class need only be interpolated where it can win: some neighbour must
give it at least the probability of chance, since the largest of N probabilities that sum to 1 is never below 1 / N.
Probabilities exist for a few planes of the grid at a time. A scan whose voxels are the grid's needs none: the likeliest
class of each is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.inference.logits import Logits

Affine = NDArray[np.floating[Any]]
Range = tuple[int, int]

PLANES = 8
"""Planes of the scan worked on at a time: their probabilities stay in the processor's cache."""
ALIGNED = 1e-6
"""How much of a voxel the other axes may add over the whole scan; a thousandth of what would change a label."""
ONE_THREAD = 32768
"""Elements below which PyTorch keeps to one thread: on a busy machine, thousands of small steps that wait for a second
thread take many times as long as they do alone."""
ON_GRID = 1e-5
"""How far from the grid's voxels, in voxels, a scan's may lie to be taken for them: no probability changes by more."""
CERTAIN = 1 - 1e-3
"""Times 1 / N, so that no rounding leaves out a class that could win."""


@dataclass(frozen=True, eq=False)
class Axis:
    """Where the voxels of the scan lie on one axis of the grid.

    Attributes:
        scan_axis: the axis of the scan that runs along it.
        first: index of the scan's first voxel inside the grid.
        end: index after the last one.
        lower: lower neighbour on the grid of each voxel of the scan, int64.
        fraction: way from it to the next neighbour, float32.
    """

    scan_axis: int
    first: int
    end: int
    lower: Tensor
    fraction: Tensor

    def on_grid(self) -> bool:
        """Tell whether each of the scan's voxels inside the grid lies on one of the grid's."""
        way = self.fraction[self.first : self.end]
        return bool(torch.minimum(way, 1 - way).amax() <= ON_GRID)

    def nearest(self, first: int, end: int) -> Tensor:
        """Return the nearest neighbours on the grid of a range of the scan's voxels."""
        return self.lower[first:end] + self.fraction[first:end].round().long()

    def on_planes(self, low: int, high: int) -> tuple[int, int]:
        """Return the range of the scan's voxels inside the grid whose nearest neighbour lies before ``high``."""
        place = self.nearest(self.first, self.end)
        within = ((place >= low) & (place < high)).nonzero()[:, 0]
        return (self.first + int(within[0]), self.first + int(within[-1]) + 1) if len(within) else (0, 0)

    def reached_from(self, low: int, high: int) -> tuple[int, int]:
        """Return the range of the scan's voxels inside the grid with a neighbour from ``low`` to ``high``."""
        reached = ((self.lower + 1 >= low) & (self.lower <= high)).nonzero()[:, 0]
        if not len(reached):
            return 0, 0
        return max(int(reached[0]), self.first), min(int(reached[-1]) + 1, self.end)

    def between_planes(self, low: int, high: int) -> tuple[int, int]:
        """Return the range of the scan's voxels inside the grid that lie from plane ``low`` to plane ``high``."""
        within = ((self.lower >= low) & (self.lower < high)).nonzero()[:, 0]
        if not len(within):
            return 0, 0
        return max(int(within[0]), self.first), min(int(within[-1]) + 1, self.end)

    def neighbours(self, first: int, end: int) -> tuple[int, int]:
        """Return the range of the grid that a range of the scan's voxels is interpolated from."""
        lower = self.lower[first:end]
        return int(lower.min()), int(lower.max()) + 2

    def between(self, first: int, end: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the lower neighbours, counted from the first of :meth:`neighbours`, and the ways to the next ones."""
        lower = self.lower[first:end]
        return (lower - lower.min()).to(device), self.fraction[first:end].to(device)


def interpolate(values: Tensor, dim: int, lower: Tensor, fraction: Tensor) -> Tensor:
    """Interpolate one dimension of ``values``, shape (X, Y, Z), at ``lower`` + ``fraction``."""
    shape = [1, 1, 1]
    shape[dim] = -1
    return torch.lerp(values.index_select(dim, lower), values.index_select(dim, lower + 1), fraction.view(shape))


def aligned_axes(to_grid: Affine, grid: torch.Size, scan_shape: tuple[int, ...]) -> list[Axis] | None:
    """Return how a scan lies along the axes of a grid, ``None`` where it does not.

    Args:
        to_grid: voxel of the scan to voxel of the grid, 4 x 4.
        grid: shape of the grid, every axis at least 2.
        scan_shape: shape of the scan.
    """
    matrix = to_grid[:3, :3]
    order = np.abs(matrix * scan_shape).argmax(axis=1).tolist()
    rest = np.abs(matrix * scan_shape)
    rest[range(3), order] = 0
    if sorted(order) != [0, 1, 2] or rest.sum(axis=1).max() > ALIGNED:
        return None
    return [
        _axis(scan_axis, matrix[axis, scan_axis], to_grid[axis, 3], grid[axis], scan_shape[scan_axis])
        for axis, scan_axis in enumerate(order)
    ]


def _axis(scan_axis: int, step: float, start: float, grid_length: int, scan_length: int) -> Axis:
    position = torch.from_numpy(start + step * np.arange(scan_length, dtype=np.float64)).float()
    inside = ((position >= -0.5) & (position <= grid_length - 0.5)).nonzero()[:, 0]
    first, end = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
    position = position.clamp(0, grid_length - 1)
    lower = position.floor().clamp(max=grid_length - 2)
    return Axis(scan_axis, first, end, lower.long(), position - lower)


def restore_aligned(
    logits: Logits,
    axes: list[Axis],
    channels: Tensor,
    planes: int = PLANES,
    first_plane: int = 0,
    winners: Tensor | None = None,
) -> None:
    """Interpolate class probabilities to the scan and write the largest one's class, a few planes at a time.

    Args:
        logits: of planes (X, Y, Z) of the grid.
        axes: how the scan lies along X, Y and Z.
        channels: shape of the scan, written to where the scan lies between planes of the logits.
        planes: planes of the scan worked on at a time.
        first_plane: index on the grid of the first plane of the logits.
        winners: the likeliest class of each voxel of the logits, shape (X, Y, Z), where it is known: what lies between
            voxels that are background need not be looked at.
    """
    turned = channels.permute([axis.scan_axis for axis in axes])  # a view: (X, Y, Z) of the grid
    if any(axis.end == axis.first for axis in axes):
        return
    first, last = axes[0].between_planes(first_plane, first_plane + logits.shape[1] - 1)
    if all(axis.on_grid() for axis in axes):
        found = logits.winners() if winners is None else winners
        take_winners(found, axes, channels, (first_plane, 0, 0))
        return
    for start in range(first, last, planes):
        end = min(start + planes, last)
        low, high = (plane - first_plane for plane in axes[0].neighbours(start, end))
        ranges = [(0, length) for length in logits.shape[2:]] if winners is None else _labelled(winners[low:high])
        if ranges is None:
            turned[start:end] = 0
            continue
        (top, bottom), (left, right) = ranges
        part = logits.of(slice(low, high), slice(top, bottom), slice(left, right))
        probabilities = part.float().softmax(dim=0)
        slab = _Slab(probabilities, axes, start, end, ranges)
        largest = probabilities.new_zeros(end - start, *turned.shape[1:])
        winner = torch.zeros(largest.shape, dtype=channels.dtype, device=channels.device)
        for channel, box in slab.boxes():
            slab.challenge(channel, box, largest, winner)
        turned[start:end] = winner


def take_winners(winners: Tensor, axes: list[Axis], channels: Tensor, start: Sequence[int]) -> None:
    """Write the class of each voxel of a scan that is one of a box of the grid; all of the scan's are the grid's.

    Args:
        winners: the likeliest class of each voxel of the box, shape (X, Y, Z).
        axes: how the scan lies along X, Y and Z.
        channels: shape of the scan, written to.
        start: index on the grid of the box's first voxel.
    """
    turned = channels.permute([axis.scan_axis for axis in axes])  # a view: (X, Y, Z) of the grid
    ranges = [axis.on_planes(low, low + length) for axis, low, length in zip(axes, start, winners.shape, strict=True)]
    if any(first >= end for first, end in ranges):
        return
    for dim, (axis, ends, low) in enumerate(zip(axes, ranges, start, strict=True)):
        winners = winners.index_select(dim, (axis.nearest(*ends) - low).to(winners.device))
    turned[tuple(slice(*ends) for ends in ranges)] = winners.to(turned)


def _labelled(winners: Tensor) -> list[Range] | None:
    """Return the ranges along Y and Z of planes (x, Y, Z) outside of which all is background, an edge of it included.

    ``None`` where all of it is.
    """
    found = (winners != 0).any(dim=0)
    ranges = []
    for dim in (1, 0):
        where = found.any(dim=dim).nonzero()[:, 0].tolist()
        if not where:
            return None
        ranges.append((max(0, where[0] - 1), min(len(found) if dim else found.shape[1], where[-1] + 2)))
    return ranges


@dataclass(frozen=True, eq=False)
class _Slab:
    """Some planes of the scan, and the probabilities that they are interpolated from.

    Attributes:
        probabilities: shape (classes, x, y, z) on planes of the grid.
        axes: how the scan lies along the grid.
        start: first plane of the scan.
        end: plane after the last one.
        ranges: of the grid along Y and Z, where the probabilities lie.
    """

    probabilities: Tensor
    axes: list[Axis]
    start: int
    end: int
    ranges: list[Range]

    @property
    def most_voxels(self) -> int:
        """Voxels of the scan to work on at a time."""
        return ONE_THREAD if self.probabilities.device.type == "cpu" else self.probabilities.numel()

    def boxes(self) -> Iterator[tuple[int, list[Range]]]:
        """Yield each class that can win, and the ranges of the scan's voxels along Y and Z where it can."""
        chance = CERTAIN / len(self.probabilities)
        peaks = self.probabilities.amax(dim=1)  # (classes, y, z)
        within = [self._within(axis, *ends) for axis, ends in zip(self.axes[1:], self.ranges, strict=True)]
        likely = [(peaks.amax(dim=dim) >= chance).cpu().numpy() for dim in (2, 1)]
        for channel in range(len(peaks)):
            found = [np.flatnonzero(where[channel]) for where in likely]
            if not all(len(where) for where in found):
                continue
            box = []
            for axis, where, (low, _), (first, end) in zip(self.axes[1:], found, self.ranges, within, strict=True):
                reached = axis.reached_from(int(where[0]) + low, int(where[-1]) + low)
                box.append((max(reached[0], first), min(reached[1], end)))
            (first, end), depth = box
            if end <= first or depth[1] <= depth[0]:
                continue
            rows = max(1, self.most_voxels // (depth[1] - depth[0]))
            for row in range(first, end, rows):
                yield channel, [(row, min(row + rows, end)), depth]

    @staticmethod
    def _within(axis: Axis, low: int, high: int) -> Range:
        """Return the range of the scan's voxels whose two neighbours lie in a range of the grid."""
        return axis.between_planes(low, high - 1)

    def challenge(self, channel: int, box: list[Range], largest: Tensor, winner: Tensor) -> None:
        """Interpolate a class in its box and note where it exceeds the classes before it.

        Args:
            channel: the class.
            box: ranges of the scan's voxels along Y and Z.
            largest: probability so far, shape of the planes; gains what is larger.
            winner: its class.
        """
        device = largest.device
        x, y, z = (
            axis.between(*ends, device) for axis, ends in zip(self.axes, [(self.start, self.end), *box], strict=True)
        )
        grid = [
            slice(*(place - low for place in axis.neighbours(*ends)))
            for axis, ends, (low, _) in zip(self.axes[1:], box, self.ranges, strict=True)
        ]
        values = self.probabilities[channel][:, grid[0], grid[1]]
        across = [slice(*ends) for ends in box]
        step = max(1, self.most_voxels // (len(y[0]) * len(z[0])))
        for first in range(0, len(x[0]), step):
            planes = slice(first, first + step)
            probability = interpolate(values, 0, x[0][planes], x[1][planes])
            probability = interpolate(interpolate(probability, 1, *y), 2, *z)
            best = largest[planes, across[0], across[1]]
            winner[planes, across[0], across[1]].masked_fill_(probability > best, channel)
            torch.maximum(best, probability, out=best)
