"""Windows in order along one axis: logits come in blocks that no further window touches.

Overlapping windows are weighted and added as ``monai.inferers.sliding_window_inference`` does it, in the same places,
in the order of ``Windows.order``. Of the logits no more is held than one window's depth
(``tests/bundle/inference/test_stream.py``).

The time goes into memory: sums lie in cells between the edges of windows, which a window covers as a whole, so that it
adds to one run of memory for each class and not to short pieces of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from typing import Any

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch import Tensor

Box = tuple[slice, ...]

TURNED_BYTES = 1 << 21
"""Of logits that are turned at a time on a CPU: two cores' second cache."""
SHORTEST_SIDE = 16
"""Voxels: less than a line of a processor's cache is slower to add to than a part of a longer row."""


@dataclass(frozen=True)
class Windows:
    """Where the windows of an image lie.

    Attributes:
        size: shape of the image (X, Y, Z).
        window: shape of a window, nowhere larger than the image.
        overlap: share of a window that the next one covers, along each axis.
        mode: ``"gaussian"`` or ``"constant"`` weights where windows overlap.
        batch: windows that the network gets at a time.
        sigma_scale: width of the Gaussian as a share of the window.
    """

    size: tuple[int, ...]
    window: tuple[int, ...]
    overlap: tuple[float, ...]
    mode: str = "gaussian"
    batch: int = 1
    sigma_scale: float | Sequence[float] = 0.125

    @property
    def single(self) -> bool:
        """Whether one window is the whole image."""
        return self.window == self.size

    @property
    def axis(self) -> int:
        """The axis to go along: the one whose slab of a window's depth is the smallest."""
        slab = [(deep + 1) * prod(self.size) // long for deep, long in zip(self.window, self.size, strict=True)]
        return 0 if self.single else slab.index(min(slab))

    @property
    def order(self) -> tuple[int, int, int]:
        """The axes of the image, the one to go along first."""
        first, second = (axis for axis in range(3) if axis != self.axis)
        return self.axis, first, second

    @property
    def count(self) -> int:
        """Number of windows."""
        return prod(len(self.starts(axis)) for axis in range(3))

    def starts(self, axis: int) -> list[int]:
        """Return the first plane of each row of windows along an axis."""
        long, deep = self.size[axis], self.window[axis]
        step = deep if deep == long else max(1, int(deep * (1 - self.overlap[axis])))
        return [int(part.start) for (part,) in dense_patch_slices([long], [deep], [step])]

    def weights(self, image: Tensor) -> Tensor:
        """Return the weight of each voxel of a window."""
        weights: Tensor = compute_importance_map(
            self.window, mode=self.mode, sigma_scale=self.sigma_scale, device=image.device, dtype=image.dtype
        )
        return weights


@dataclass(frozen=True, eq=False)
class Block:
    """Logits of a box of the image, good until the next one is asked for; axes in the order of ``Windows.order``.

    Attributes:
        place: the box.
        logits: shape (classes, X, Y, Z); may be changed.
        weights: what the logits are still to be divided by, shape (X, Y, Z), where they are sums of several windows.
        seam: how many of its first planes came before, as the last ones of the block before.
    """

    place: Box
    logits: Tensor
    weights: Tensor | None = None
    seam: int = 0


def logit_blocks(
    image: Tensor,
    network: Callable[..., Any],
    windows: Windows,
    tell: Callable[[int], None] = lambda done: None,
    slabs: bool = False,
) -> Iterator[Block]:
    """Yield the logits of an image block by block along ``windows.axis``, each once no further window touches it.

    Args:
        image: shape (1, C, X, Y, Z).
        network: maps (B, C, *window) to logits (B, classes, *window).
        windows: where they lie.
        tell: called with the number of windows done, after each call of the network.
        slabs: whether blocks are to be whole planes of logits, without weights, each of which but the first starts with
            the last plane of the one before, so that what lies between the two can be interpolated.
    """
    turned = (0, *(axis + 1 for axis in windows.order))
    if windows.single:
        logits = network(image)[0].permute(turned)
        tell(1)
        yield Block(tuple(slice(0, windows.size[axis]) for axis in windows.order), logits)
        return
    weights = windows.weights(image).permute(windows.order)
    sums: _Sums | None = None
    done = 0
    for start in windows.starts(windows.axis):
        if sums is not None:
            sums.move_on(start)
        for places in _row(windows, start):
            logits = network(torch.cat([image[(slice(None), slice(None), *place)] for place in places]))
            sums = sums or _Sums(logits.to(image.dtype), windows, slabs)
            finished = [
                cell
                for place, part in zip(places, logits.to(image.dtype), strict=True)
                for cell in sums.add(part.permute(turned), weights, place)
            ]
            done += len(places)
            tell(done)
            del logits  # of all windows of a call, before memory is needed for what becomes of the sums
            yield from map(sums.block, finished)


def _row(windows: Windows, start: int) -> Iterator[list[Box]]:
    """Yield the places of the windows that start at one plane, as many at a time as the network gets."""
    starts = [[start] if axis == windows.axis else windows.starts(axis) for axis in range(3)]
    places = [
        tuple(slice(low, low + length) for low, length in zip(corner, windows.window, strict=True))
        for corner in product(*starts)
    ]
    for index in range(0, len(places), windows.batch):
        yield places[index : index + windows.batch]


@dataclass(eq=False)
class _Cell:
    """Sums over the depth of a window in a rectangle of the other two axes.

    Attributes:
        across: the rectangle.
        sums: of weighted logits, shape (classes, planes, Y, Z).
        weights: shape (planes, Y, Z).
    """

    across: Box
    sums: Tensor
    weights: Tensor


class _Sums:
    """Sums of weighted logits over a window's depth of planes; with slabs, after the last plane that is finished.

    Args:
        logits: of some windows, shape (B, classes, *window).
        windows: where all of them lie.
        slabs: whether one cell is to hold whole planes.
    """

    def __init__(self, logits: Tensor, windows: Windows, slabs: bool) -> None:
        self.windows, self.slabs = windows, slabs
        self.starts = windows.starts(windows.axis)
        self.base = self.seam = 0
        first, *others = windows.order
        self.depth = windows.window[first]
        planes = min(self.depth + slabs, windows.size[first])
        sides = [_sides(windows, axis, cut=not slabs) for axis in others]
        self.cells = [self._cell(logits, planes, across) for across in product(*sides)]

    @staticmethod
    def _cell(logits: Tensor, planes: int, across: Box) -> _Cell:
        shape = planes, *(part.stop - part.start for part in across)
        return _Cell(across, logits.new_zeros(logits.shape[1], *shape), logits.new_zeros(shape))

    def add(self, logits: Tensor, weights: Tensor, place: Box) -> list[_Cell]:
        """Add a window that starts at ``base`` by its weights, and return the cells that were waiting for it alone.

        Args:
            logits: shape (classes, X, Y, Z), axes in the order of ``Windows.order``.
            weights: shape (X, Y, Z), likewise.
            place: of the window in the image.
        """
        planes = slice(self.seam, self.seam + self.depth)
        across = [place[axis] for axis in self.windows.order[1:]]
        touched = [cell for cell in self.cells if all(map(_overlap, cell.across, across))]
        places = []
        for cell in touched:
            shared = [_shared(one, other) for one, other in zip(cell.across, across, strict=True)]
            to = (planes, *(_within(part, whole) for part, whole in zip(shared, cell.across, strict=True)))
            of = (slice(None), *(_within(part, whole) for part, whole in zip(shared, across, strict=True)))
            places.append((cell.sums[(slice(None), *to)], weights[of].contiguous(), (slice(None), *of)))
            cell.weights[to] += weights[of]
        for some, part in _turned(logits):
            for sums, weight, of_logits in places:
                sums[some].addcmul_(part[of_logits], weight)
        return [cell for cell in touched if self._is_last(across, cell)]

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
        logits, weights = cell.sums[:, planes], cell.weights[planes]
        place = (slice(first, end), *cell.across)
        if not self.slabs:
            return Block(place, logits, weights)
        logits[:, self.seam :] /= weights[self.seam :]
        return Block(place, logits, None, self.seam)

    def move_on(self, start: int) -> None:
        """Let go the planes before ``start``, but with slabs the last one of them."""
        step = self.seam + start - self.base - self.slabs
        for cell in self.cells:
            kept = cell.sums.shape[1] - step
            for first in range(0, kept if step else 0, step or 1):  # so many at a time that they do not overlap
                planes = slice(first, min(first + step, kept))
                source = slice(planes.start + step, planes.stop + step)
                cell.sums[:, planes] = cell.sums[:, source]
                cell.weights[planes] = cell.weights[source]
            cell.sums[:, kept:] = 0
            cell.weights[kept:] = 0
        self.base, self.seam = start, int(self.slabs)


def _turned(logits: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield ranges of the classes, and their logits with the last axis innermost in memory, or all as they are."""
    if logits.stride(3) == 1 or logits.device.type != "cpu":
        yield slice(None), logits
        return
    classes = max(1, TURNED_BYTES // (4 * logits[0].numel()))
    for start in range(0, len(logits), classes):
        some = slice(start, start + classes)
        yield some, logits[some].contiguous()


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
