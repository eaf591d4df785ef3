"""Weighted sums of logits, or features, of overlapping windows, from which blocks come that no further window touches.

The time goes into memory: sums lie in cells between the edges of windows, which a window covers as a whole, so that it
adds to one run of memory for each class and not to short pieces of rows, and the first one writes and does not add
(``tests/bundle/inference/test_stream.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bundle.engines.head import Head
from bundle.inference.logits import Logits
from bundle.inference.ranking import Box

if TYPE_CHECKING:
    from bundle.inference.slabs import Windows

TURNED_BYTES = 1 << 21
"""Of logits that are turned at a time, for each thread on a CPU: they stay in its caches."""
SHORTEST_SIDE = 16
"""Voxels: less than a line of a processor's cache is slower to add to than a part of a longer row."""


@dataclass(frozen=True, eq=False)
class Block:
    """Logits of a box of the image, good until the next one is asked for; axes in the order of ``Windows.order``.

    Attributes:
        place: the box.
        logits: of its voxels; may be changed.
        weights: what the logits are still to be divided by, shape (X, Y, Z), where they are sums of several windows.
        seam: how many of its first planes came before, as the last ones of the block before.
    """

    place: Box
    logits: Logits
    weights: Tensor | None = None
    seam: int = 0


@dataclass(eq=False)
class _Cell:
    """Sums over the depth of a window in a rectangle of the other two axes.

    Attributes:
        across: the rectangle.
        sums: of weighted values, shape (channels, planes, Y, Z).
        weights: shape (planes, Y, Z).
        fresh: from which plane on nothing was added yet, and there may be anything.
    """

    across: Box
    sums: Tensor
    weights: Tensor
    fresh: int = 0

    def begin(self, end: int) -> None:
        """Begin with zeros in the planes before ``end``, where nothing was added yet."""
        self.sums[:, self.fresh : end] = 0
        self.weights[self.fresh : end] = 0
        self.fresh = end

    def move(self, step: int, kept: int) -> None:
        """Move so many planes to the front, and let go those before and after them."""
        for first in range(0, kept if step else 0, step or 1):  # so many at a time that they do not overlap
            planes = slice(first, min(first + step, kept))
            source = slice(planes.start + step, planes.stop + step)
            self.sums[:, planes] = self.sums[:, source]
            self.weights[planes] = self.weights[source]
        self.fresh = kept


@dataclass(frozen=True, eq=False)
class _Part:
    """Where a part of a window goes.

    Attributes:
        of: the part of the window, as an index of its values.
        weights: its weights.
        sums: what it is added to, or written over.
        over: whether it is written over what is there.
    """

    of: Box
    weights: Tensor
    sums: Tensor
    over: bool

    def take(self, channels: slice, values: Tensor) -> None:
        """Take some channels of the window's values."""
        if self.over:
            torch.mul(values[self.of], self.weights, out=self.sums[channels])
        else:
            self.sums[channels].addcmul_(values[self.of], self.weights)


class Sums:
    """Sums of weighted values over a window's depth of planes; with slabs, after the last plane that is finished.

    Args:
        values: of some windows, logits or what ``head`` maps to them, shape (B, channels, *window).
        windows: where all of them lie.
        slabs: whether one cell is to hold whole planes.
        head: the last layer of the network, where it is still to come.
    """

    def __init__(self, values: Tensor, windows: Windows, slabs: bool, head: Head | None = None) -> None:
        self.windows, self.slabs, self.head = windows, slabs, head
        self.starts = windows.starts(windows.axis)
        self.base = self.seam = 0
        first, *others = windows.order
        self.depth = windows.window[first]
        planes = min(self.depth + slabs, windows.size[first])
        sides = [_sides(windows, axis, cut=not slabs) for axis in others]
        self.cells = [self._cell(values, planes, across) for across in product(*sides)]

    @staticmethod
    def _cell(values: Tensor, planes: int, across: Box) -> _Cell:
        shape = planes, *(part.stop - part.start for part in across)
        channels = values.shape[1]
        if values.stride(1) == 1 and channels > 1:  # channels last, as in the windows
            sums = values.new_empty(*shape, channels).permute(3, 0, 1, 2)
        else:
            sums = values.new_empty(channels, *shape)
        return _Cell(across, sums, values.new_empty(shape))

    def add(self, values: Tensor, weights: Tensor, place: Box) -> list[_Cell]:
        """Add a window that starts at ``base`` by its weights, and return the cells that were waiting for it alone.

        Args:
            values: shape (channels, X, Y, Z), axes in the order of ``Windows.order``.
            weights: shape (X, Y, Z), likewise.
            place: of the window in the image.
        """
        across = [place[axis] for axis in self.windows.order[1:]]
        touched = [cell for cell in self.cells if all(map(_overlap, cell.across, across))]
        parts = [part for cell in touched for part in self._parts(cell, weights, across)]
        for channels, turned in _turned(values):
            for part in parts:
                part.take(channels, turned)
        return [cell for cell in touched if self._is_last(across, cell)]

    def _parts(self, cell: _Cell, weights: Tensor, across: Sequence[slice]) -> Iterator[_Part]:
        """Yield where a window at some place goes in a cell, whose weights gain the window's."""
        end = self.seam + self.depth
        shared = [_shared(one, other) for one, other in zip(cell.across, across, strict=True)]
        if shared != list(cell.across):
            cell.begin(end)
        to = [_within(part, whole) for part, whole in zip(shared, cell.across, strict=True)]
        of = [_within(part, whole) for part, whole in zip(shared, across, strict=True)]
        for planes, over in ((slice(self.seam, cell.fresh), False), (slice(cell.fresh, end), True)):
            if planes.start == planes.stop:
                continue
            box = (slice(planes.start - self.seam, planes.stop - self.seam), *of)
            weight, kept = weights[box].contiguous(), cell.weights[(planes, *to)]
            kept.copy_(weight if over else kept + weight)
            yield _Part((slice(None), *box), weight, cell.sums[(slice(None), planes, *to)], over)
        cell.fresh = end

    def _is_last(self, across: Sequence[slice], cell: _Cell) -> bool:
        """Tell whether no later window of the row touches a cell."""
        return all(
            part.start == max(start for start in self.windows.starts(axis) if start < side.stop)
            for axis, part, side in zip(self.windows.order[1:], across, cell.across, strict=True)
        )

    def _end(self) -> int:
        """Return the plane before which all is finished once the row is."""
        later = [start for start in self.starts if start > self.base]
        return later[0] if later else self.windows.size[self.windows.axis]

    def block(self, cell: _Cell) -> Block:
        """Return what is finished of a cell."""
        first, end = self.base - self.seam, self._end()
        planes = slice(0, end - first)
        values, weights = cell.sums[:, planes], cell.weights[planes]
        place = (slice(first, end), *cell.across)
        if not self.slabs and self.head is None:
            return Block(place, Logits(values), weights)
        values[:, self.seam :] /= weights[self.seam :]
        return Block(place, Logits(values, self.head), None, self.seam)

    def move_on(self, start: int) -> None:
        """Let go the planes before ``start``, but with slabs the last one of them."""
        step = self.seam + start - self.base - self.slabs
        for cell in self.cells:
            cell.move(step, self.seam + self.depth - step)
        self.base, self.seam = start, int(self.slabs)


def _turned(values: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield ranges of the channels, and their values with the last axis innermost in memory, or all as they are."""
    if values.stride(3) == 1 or values.stride(0) == 1 or values.device.type != "cpu":
        yield slice(None), values
        return
    channels = max(1, TURNED_BYTES * torch.get_num_threads() // (4 * values[0].numel()))
    for start in range(0, len(values), channels):
        some = slice(start, start + channels)
        yield some, _depth_first(values[some])


def _depth_first(logits: Tensor) -> Tensor:
    """Return logits, shape (classes, X, Y, Z), with the last axis innermost in memory.

    Where X is, as in a contiguous window whose last axis comes first, each class is a matrix to be transposed. That is
    what a shuffle of channels is, of vectors that lie one after another, and PyTorch computes it with vector units; its
    copy goes element by element in almost twice the time.
    """
    classes, depth, *across = logits.shape
    if not logits.permute(0, 2, 3, 1).is_contiguous():
        return logits.contiguous()
    length = logits[0].numel()
    vectors = logits.as_strided((1, length, classes, 1), (classes * length, 1, length, length))
    shuffled = torch.channel_shuffle(vectors, length // depth)
    return shuffled.as_strided((classes, depth, *across), (length, length // depth, across[1], 1))


def _sides(windows: Windows, axis: int, cut: bool) -> list[slice]:
    """Return the sides of cells along an axis: between the edges of windows, unless pieces are short, or all of it."""
    starts = windows.starts(axis)
    edges = sorted({*starts, *(start + windows.window[axis] for start in starts)})
    sides = [slice(low, high) for low, high in pairwise(edges)]
    whole = [slice(0, windows.size[axis])]
    return sides if cut and min(side.stop - side.start for side in sides) >= SHORTEST_SIDE else whole


def _overlap(one: slice, other: slice) -> bool:
    return bool(max(one.start, other.start) < min(one.stop, other.stop))


def _shared(one: slice, other: slice) -> slice:
    return slice(max(one.start, other.start), min(one.stop, other.stop))


def _within(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)
