"""Windows in order along one axis: logits come as slabs of planes that no further window touches.

Overlapping windows are weighted and added as ``monai.inferers.sliding_window_inference`` does it, in the same places;
along the first axis in the same order too, so that the sums are the same bit by bit. Of the logits no more is held than
one window's depth (``tests/bundle/inference/test_stream.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch import Tensor


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


def logit_slabs(
    image: Tensor,
    network: Callable[..., Any],
    windows: Windows,
    tell: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield the logits of an image, slab by slab along ``windows.axis``, each once no further window touches it.

    Args:
        image: shape (1, C, X, Y, Z).
        network: maps (B, C, *window) to logits (B, classes, *window).
        windows: where they lie.
        tell: called with the number of windows done, after each call of the network.

    Yields:
        Index of the slab's first plane, and its logits, shape (classes, planes, A, B): the axes of ``windows.order``.
        Each slab but the first starts with the last plane of the one before, so that what lies between the two can be
        interpolated. They are good until the next one is asked for.
    """
    order = windows.order
    turned = (0, *(axis + 1 for axis in order))
    if windows.single:
        logits = network(image)[0].permute(turned)
        tell(1)
        yield 0, logits
        return
    weights = windows.weights(image)
    buffer, done = None, 0
    for start in windows.starts(order[0]):
        if buffer is not None and start > buffer.base:
            yield buffer.finished(start)
            buffer.let_go(start)
        for places in _row(windows, start):
            logits = network(torch.cat([image[(slice(None), slice(None), *place)] for place in places]))
            logits = logits.to(image.dtype)
            if buffer is None:
                buffer = _Buffer(logits, [windows.size[axis] for axis in order], windows.window[order[0]])
            for place, part in zip(places, logits, strict=True):
                across = tuple(place[axis] for axis in order[1:])
                buffer.add(part.permute(turned), weights.permute(order), across)
            done += len(places)
            tell(done)
            del logits, part  # a view
    assert buffer is not None
    yield buffer.finished(windows.size[order[0]])


def _row(windows: Windows, start: int) -> Iterator[list[tuple[slice, ...]]]:
    """Yield the places of the windows that start at one plane, as many at a time as the network gets."""
    starts = [[start] if axis == windows.axis else windows.starts(axis) for axis in range(3)]
    places = [
        tuple(slice(low, low + length) for low, length in zip(corner, windows.window, strict=True))
        for corner in product(*starts)
    ]
    for index in range(0, len(places), windows.batch):
        yield places[index : index + windows.batch]


class _Buffer:
    """Sums of weighted logits of a window's depth of planes, after the last plane that is finished.

    Attributes:
        base: index of the first plane that is not finished.
    """

    def __init__(self, logits: Tensor, size: Sequence[int], depth: int) -> None:
        self.base = self.seam = 0
        self.depth = depth
        self.sums = logits.new_zeros(logits.shape[1], min(depth + 1, size[0]), *size[1:])
        self.weights = logits.new_zeros(self.sums.shape[1:])

    def add(self, logits: Tensor, weights: Tensor, across: tuple[slice, ...]) -> None:
        """Add a window that starts at ``base`` by its weights; axes (classes, planes, A, B) and (planes, A, B)."""
        place = (slice(self.seam, self.seam + self.depth), *across)
        self.sums[(slice(None), *place)].addcmul_(logits, weights)  # in one pass: half the time of two
        self.weights[place] += weights

    def finished(self, end: int) -> tuple[int, Tensor]:
        """Return the logits of the planes before ``end``, the last of the slab before in front."""
        planes = slice(self.seam, self.seam + end - self.base)
        self.sums[:, planes] /= self.weights[planes]
        return self.base - self.seam, self.sums[:, : planes.stop]

    def let_go(self, end: int) -> None:
        """Let the planes before ``end`` go but for the last one."""
        step = self.seam + end - self.base - 1
        kept = self.sums.shape[1] - step
        for plane in range(kept if step else 0):  # one by one, as they may overlap
            self.sums[:, plane] = self.sums[:, plane + step]
            self.weights[plane] = self.weights[plane + step]
        self.sums[:, kept:] = self.weights[kept:] = 0
        self.base, self.seam = end, 1
