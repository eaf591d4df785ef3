"""Windows in order along one axis: logits come in blocks that no further window touches.

Overlapping windows are weighted and added as ``monai.inferers.sliding_window_inference`` does it, in the same places,
in the order of ``Windows.order``. Of the logits no more is held than one window's depth
(``tests/bundle/inference/test_stream.py``).
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

from bundle.engines.head import Head
from bundle.inference.logits import Logits
from bundle.inference.ranking import Box
from bundle.inference.sums import Block, Sums


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


def logit_blocks(
    image: Tensor,
    network: Callable[..., Any],
    windows: Windows,
    tell: Callable[[int], None] = lambda done: None,
    slabs: bool = False,
    head: Head | None = None,
) -> Iterator[Block]:
    """Yield the logits of an image block by block along ``windows.axis``, each once no further window touches it.

    Args:
        image: shape (1, C, X, Y, Z).
        network: maps (B, C, *window) to logits (B, classes, *window), or to what ``head`` maps to them.
        windows: where they lie.
        tell: called with the number of windows done, after each call of the network.
        slabs: whether blocks are to be whole planes of logits, without weights, each of which but the first starts with
            the last plane of the one before, so that what lies between the two can be interpolated.
        head: the last layer of the network, where it is left out.
    """
    turned = (0, *(axis + 1 for axis in windows.order))
    if windows.single:
        values = network(image)[0].permute(turned)
        tell(1)
        yield Block(tuple(slice(0, windows.size[axis]) for axis in windows.order), Logits(values, head))
        return
    weights = windows.weights(image).permute(windows.order)
    sums: Sums | None = None
    done = 0
    for start in windows.starts(windows.axis):
        if sums is not None:
            sums.move_on(start)
        for places in _row(windows, start):
            values = network(torch.cat([image[(slice(None), slice(None), *place)] for place in places]))
            sums = sums or Sums(values.to(image.dtype), windows, slabs, head)
            finished = [
                cell
                for place, part in zip(places, values.to(image.dtype), strict=True)
                for cell in sums.add(part.permute(turned), weights, place)
            ]
            done += len(places)
            tell(done)
            del values  # of all windows of a call, before memory is needed for what becomes of the sums
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
