"""How near an exported model comes to the network it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

LOGIT_BAR = 1e-3
LABEL_BAR = 0.9999
OUTPUT_BAR = 1e-3


@dataclass(frozen=True)
class Parity:
    """How near an exported model comes to the network in float32 on one batch of images.

    Attributes:
        image: name of the image.
        shape: of the batch, (B, C, D, H, W).
        logit_difference: largest absolute difference of the logits.
        largest_logit: largest absolute logit.
        equal_labels: share of voxels with the same largest logit.
        output_difference: largest absolute difference of the outputs for the scan, ``None`` where there are none.
    """

    image: str
    shape: tuple[int, ...]
    logit_difference: float
    largest_logit: float
    equal_labels: float
    output_difference: float | None = None

    @classmethod
    def of(cls, image: str, expected: Sequence[Tensor], found: Sequence[Tensor], shape: Sequence[int]) -> Parity:
        """Compare logits (B, classes, D, H, W), and outputs for the scan where the network has them.

        A form that lacks the outputs is infinitely far off.
        """
        logits, wanted = found[0], expected[0]
        difference: float | None = None
        if len(expected) > 1:
            difference = (found[1] - expected[1]).abs().max().item() if len(found) > 1 else float("inf")
        return cls(
            image,
            tuple(shape),
            (logits - wanted).abs().max().item(),
            wanted.abs().max().item(),
            (logits.argmax(1) == wanted.argmax(1)).double().mean().item(),
            difference,
        )

    @property
    def holds(self) -> bool:
        """Whether all bars are met."""
        outputs = self.output_difference is None or self.output_difference <= OUTPUT_BAR
        return outputs and self.logit_difference <= LOGIT_BAR and self.equal_labels >= LABEL_BAR

    @property
    def finding(self) -> str:
        """What was found, as a clause."""
        outputs = "" if self.output_difference is None else f", outputs for the scan by {self.output_difference:.1e}"
        return (
            f"logits of {self.image} differ by {self.logit_difference:.1e}"
            f"{outputs} and {self.equal_labels:.4%} of the labels are equal"
        )
