"""How near an exported model comes to the network it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

LOGIT_BAR = 1e-3
LABEL_BAR = 0.9999


@dataclass(frozen=True)
class Parity:
    """How near an exported model comes to the network in float32 on one batch of images.

    Attributes:
        image: name of the image.
        shape: of the batch, (B, C, D, H, W).
        logit_difference: largest absolute difference of the logits.
        largest_logit: largest absolute logit.
        equal_labels: share of voxels with the same largest logit.
    """

    image: str
    shape: tuple[int, ...]
    logit_difference: float
    largest_logit: float
    equal_labels: float

    @classmethod
    def of(cls, image: str, expected: Tensor, found: Tensor, shape: Sequence[int]) -> Parity:
        """Compare logits (B, classes, D, H, W)."""
        return cls(
            image,
            tuple(shape),
            (found - expected).abs().max().item(),
            expected.abs().max().item(),
            (found.argmax(1) == expected.argmax(1)).double().mean().item(),
        )

    @property
    def holds(self) -> bool:
        """Whether both bars are met."""
        return self.logit_difference <= LOGIT_BAR and self.equal_labels >= LABEL_BAR

    @property
    def finding(self) -> str:
        """What was found, as a clause."""
        return (
            f"logits of {self.image} differ by {self.logit_difference:.1e}"
            f" and {self.equal_labels:.4%} of the labels are equal"
        )
