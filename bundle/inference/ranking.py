"""The likeliest classes of some voxels, the lead of each over the next, and the sum of all odds, in few passes.

Class and logit are packed into one whole number, of which the smallest is found by an ``amin`` that the processor's
vector units compute, where ``argmax``, ``topk`` and ``sort`` walk voxel by voxel: 0.1 ns an element against 3 to 10
(``tests/bundle/inference/test_ranking.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from bundle.inference.sums import Box

CACHE_BYTES = 1 << 21
"""Of the logits of voxels looked at together, for each thread on a CPU: what comes of them fits into its caches."""
DEVICE_BYTES = 1 << 26
"""Of those on another device."""
LARGEST = torch.iinfo(torch.int32).max


class Ranking:
    """The classes of some voxels by their likelihood.

    The first class is exactly the one of ``argmax``: of equal ones the first, NaN and infinity being the largest of
    all. Of the others two change places where their distances to the first agree to 1 / 2 ** (22 - bits of a class).

    Args:
        logits: shape (classes, K), unchanged.
        weights: what they are to be divided by, shape (K,), above 0.
    """

    def __init__(self, logits: Tensor, weights: Tensor | None = None) -> None:
        values = logits.float()
        most = values.amax(dim=0)
        self.decided: Tensor | None = None
        if not math.isfinite(float(most.sum())):
            self.decided = most.isfinite()  # elsewhere no difference is a number
            values = torch.where(self.decided, values, torch.where(values.isnan() | (values == most), 0.0, -torch.inf))
            most = values.amax(dim=0)
        odds = values - most
        odds *= math.log2(math.e) if weights is None else math.log2(math.e) / weights
        self._odds = odds  # logarithms to the base 2, which is exponentiated three times as fast
        bits = max(1, (len(odds) - 1).bit_length())
        self._class = (1 << bits) - 1
        # Of numbers below 0, the larger one's bits are the smaller whole number, once the sign is gone.
        self._keys = torch.bitwise_and(odds.view(torch.int32), LARGEST - self._class)
        self._keys |= torch.arange(len(odds), dtype=torch.int32, device=odds.device)[:, None]
        self._last: Tensor | None = None
        self._total: Tensor | None = None

    def next(self) -> tuple[Tensor, Tensor]:
        """Return the next likely class of each voxel, and the logarithm of its odds to the first, shape (K,) both."""
        if self._last is None:
            self._last = (self._keys.amin(dim=0) & self._class).long()
            return self._last, torch.zeros_like(self._odds[0])
        self._keys.scatter_(0, self._last[None], LARGEST)
        self._last = (self._keys.amin(dim=0) & self._class).long()
        return self._last, self._odds.gather(0, self._last[None])[0] * math.log(2)

    def total(self) -> Tensor:
        """Return the sum of the odds of all classes to the first, shape (K,); there is no next class after this."""
        if self._total is None:
            self._total = self._odds.exp2_().sum(dim=0)
        return self._total


def bytes_together(device: torch.device) -> int:
    """Return the bytes of the logits that are looked at together."""
    return CACHE_BYTES * torch.get_num_threads() if device.type == "cpu" else DEVICE_BYTES


def voxel_boxes(logits: Tensor) -> Iterator[Box]:
    """Yield boxes of voxels whose logits are looked at together, each as near to one run of memory as can be.

    Args:
        logits: shape (classes, X, Y, Z).
    """
    most = max(1, bytes_together(logits.device) // (4 * len(logits)))
    shape, strides = logits.shape[1:], logits.stride()[1:]
    lengths = [1, 1, 1]
    for axis in sorted(range(3), key=lambda axis: strides[axis]):
        lengths[axis] = max(1, min(shape[axis], most // math.prod(lengths)))
    sides = [
        [slice(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(shape, lengths, strict=True)
    ]
    yield from product(*sides)
