"""Dice plus cross-entropy of many classes as one expression, which ``torch.compile`` fuses to a few passes on a GPU.

``LeanDiceCELoss`` sums over slabs that fit a processor's cache; on a GPU that is thousands of small kernels.
``tests/bundle/training/test_lean_loss.py`` holds both equal to MONAI's, in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bundle.label_groups import IGNORED_CHANNEL
from bundle.training.lean_loss import SMOOTH


def dice_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the loss, see ``FusedDiceCELoss``, with a weight of each class (C,)."""
    logits, target = logits.flatten(2), target.flatten(1)
    counts = target != IGNORED_CHANNEL
    classes = torch.arange(logits.shape[1], device=logits.device)[None, :, None]
    truth = (target[:, None] == classes).to(logits.dtype)  # nothing where it does not count
    log_p = logits.log_softmax(1)
    p = log_p.exp() * counts[:, None]
    overlap, both = 2 * (p * truth).sum(2), p.sum(2) + truth.sum(2)
    dice = 1 - (overlap + SMOOTH) / (both + SMOOTH)
    weighed = truth * weight[:, None]
    mass = weighed.sum()
    loss: Tensor = dice.mean() - (weighed * log_p).sum() / mass.clamp(min=1e-6)
    return torch.where(mass > 0, loss, loss * 0.0)


class FusedDiceCELoss(nn.Module):
    """Mean soft Dice loss of all classes plus weighted cross-entropy, as ``IgnoringDiceCELoss`` has them.

    Args:
        weight: weight of each class in the cross-entropy, shape (C,); ``None`` weighs all alike.
        enabled: whether to compile it; memory for the probabilities of all classes is needed several times otherwise.
        backend: of ``torch.compile``.

    Shape: logits (B, C, X, Y, Z), channels (B, 1, X, Y, Z) -> (). Voxels of ``IGNORED_CHANNEL`` do not exist to it.
    """

    def __init__(self, weight: Tensor | None = None, enabled: bool = True, backend: str = "inductor") -> None:
        super().__init__()
        self.weight = weight
        self.compute = (
            torch.compile(dice_cross_entropy, backend=backend, dynamic=True) if enabled else dice_cross_entropy
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss; 0 where no voxel counts."""
        weight = logits.new_ones(logits.shape[1]) if self.weight is None else self.weight
        loss: Tensor = self.compute(logits, target, weight.to(logits))
        return loss
