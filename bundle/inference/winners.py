"""The likeliest class of each voxel, as ``argmax`` has it, in a sixth of its time on a CPU.

PyTorch walks along the classes of each voxel there, whose logits lie megabytes apart. Here the voxels of some planes
are compared class by class, while they are in the processor's cache (``tests/bundle/inference/test_winners.py``).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

UINT8_CLASSES = 256
"""Winners are uint8, or int16 where they do not fit."""
TOGETHER = 1 << 17
"""Voxels compared at a time: their best logits so far take half a megabyte."""


def winners_of(logits: Tensor) -> Tensor:
    """Return the class with the largest logit of each voxel, shape (X, Y, Z), on the device of the logits.

    Of equal ones it is the first, and NaN is the largest of all.

    Args:
        logits: shape (classes, X, Y, Z), unchanged.
    """
    dtype = torch.uint8 if len(logits) <= UINT8_CLASSES else torch.int16
    if logits.device.type != "cpu" or logits.dtype not in (torch.float32, torch.float64):
        return logits.argmax(dim=0).to(dtype)
    winners = torch.zeros(logits.shape[1:], dtype=dtype)
    planes = max(1, TOGETHER // max(1, logits.shape[2] * logits.shape[3]))
    for part, winner in zip(logits.detach().split(planes, dim=1), winners.split(planes), strict=True):
        if not _compare(part, winner):
            winner.copy_(part.argmax(dim=0))
    return winners


def _compare(logits: Tensor, winner: Tensor) -> bool:
    """Write the winners of some planes over zeros, and return whether they hold: not where there is a NaN."""
    first, *others = logits.numpy()
    written, best, better = winner.numpy(), first.copy(), np.empty(first.shape, dtype=bool)
    for channel, values in enumerate(others, 1):
        np.greater(values, best, out=better)
        np.copyto(written, channel, where=better)
        np.maximum(best, values, out=best)
    return not np.isnan(best).any()
