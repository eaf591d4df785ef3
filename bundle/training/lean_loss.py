"""Dice plus cross-entropy of many classes without their one-hot volumes: a few slabs of memory, half of the time.

MONAI's loss holds six volumes of all classes: 5 GB for a head at 1 mm and 33 classes. Here loss and gradient are summed
over slabs of voxels; beside the logits only their gradient is held. ``tests/bundle/training/test_lean_loss.py`` holds
both equal to MONAI's, in float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bundle.label_groups import IGNORED_CHANNEL

VOXELS = 1 << 16
"""Voxels of a slab: its probabilities fit a processor's cache."""
SMOOTH = 1e-5
"""MONAI's ``smooth_nr`` and ``smooth_dr``."""


class _DiceCrossEntropy(torch.autograd.Function):
    """Loss of logits (B, C, N) and channels (B, N); the gradient is computed along with it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        batch, channels, _ = logits.shape
        counts = target != IGNORED_CHANNEL
        per_class = torch.ones(channels, device=logits.device) if weight is None else weight.to(logits.device)
        per_class = per_class.to(torch.promote_types(logits.dtype, torch.float32))
        safe = target.masked_fill(~counts, 0)
        mass = (per_class[safe] * counts).sum()
        gradient = torch.empty_like(logits)
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        for item in range(batch):
            sums, entropy = _sums(logits[item], safe[item], counts[item], per_class)
            overlap, both = 2 * sums[0] + SMOOTH, sums[1] + sums[2] + SMOOTH
            total += (1 - overlap / both).mean() / batch + entropy / mass
            share = 1 / (batch * channels)
            slopes = [(slope * share).to(per_class.dtype) for slope in (-2 / both, overlap / both.square())]
            _write_gradient(gradient[item], logits[item], safe[item], counts[item], slopes, per_class / mass)
        ctx.save_for_backward(gradient)
        return total.to(per_class.dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0].to(gradient.dtype), None, None


def _sums(logits: Tensor, target: Tensor, counts: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return overlap, prediction and truth of each class, (3, C), and the weighted cross-entropy, all as sums."""
    channels = len(logits)
    sums = torch.zeros(3, channels, dtype=torch.float64, device=logits.device)
    entropy = torch.zeros((), dtype=torch.float64, device=logits.device)
    for z, y, counted in zip(logits.split(VOXELS, 1), target.split(VOXELS), counts.split(VOXELS), strict=True):
        log_p = z.to(weight.dtype).log_softmax(0)
        own = log_p.gather(0, y[None])[0]
        entropy -= (own * weight[y] * counted).sum().double()
        sums[0] += torch.bincount(y, own.exp() * counted, channels).double()
        sums[1] += (log_p.exp_() @ counted.to(weight.dtype)).double()
        sums[2] += torch.bincount(y, counted.to(weight.dtype), channels).double()
    return sums, entropy


def _write_gradient(
    gradient: Tensor, logits: Tensor, target: Tensor, counts: Tensor, slopes: list[Tensor], weight: Tensor
) -> None:
    """Write the gradient of the loss with respect to the logits (C, N)."""
    at_own, everywhere = slopes
    parts = (part.split(VOXELS, dim) for part, dim in ((gradient, 1), (logits, 1), (target, 0), (counts, 0)))
    for out, z, y, counted in zip(*parts, strict=True):
        p = z.to(weight.dtype).softmax(0)
        own = p.gather(0, y[None])[0]
        pull, factor = own * at_own[y], weight[y]
        shared = everywhere @ p + pull
        dz = p.mul_(everywhere[:, None] + (factor - shared))
        dz.scatter_add_(0, y[None], (pull - factor)[None])
        out.copy_(dz.mul_(counted))


class LeanDiceCELoss(nn.Module):
    """Mean soft Dice loss of all classes plus weighted cross-entropy, as ``IgnoringDiceCELoss`` has them.

    Args:
        weight: weight of each class in the cross-entropy, shape (C,); ``None`` weighs all alike.

    Shape: logits (B, C, X, Y, Z), channels (B, 1, X, Y, Z) -> (). Voxels of ``IGNORED_CHANNEL`` do not exist to it.
    """

    def __init__(self, weight: Tensor | None = None) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss; 0 where no voxel counts."""
        channels = target.flatten(1).long()
        if bool((channels == IGNORED_CHANNEL).all()):
            return logits.sum() * 0.0
        loss: Tensor = _DiceCrossEntropy.apply(logits.flatten(2), channels, self.weight)  # type: ignore[no-untyped-call]
        return loss
