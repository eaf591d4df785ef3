"""Several networks as one: the average of their class probabilities, one network's logits at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bundle.engines.networks import EngineNetwork


class EnsembleNetwork(EngineNetwork):
    """The logarithm of the mean of the class probabilities of several networks, as logits.

    Its softmax is that mean. At most two tensors of logits' size are there at once, however many networks there are;
    the time is the sum of theirs.

    Args:
        members: networks that map the same images to logits of the same classes.
    """

    def __init__(self, members: Sequence[EngineNetwork]) -> None:
        engines, precisions = ({getattr(member, name): None for member in members} for name in ("engine", "precision"))
        super().__init__("+".join(engines), bfloat16=False)
        self.precision = "+".join(precisions)
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, C, D, H, W) to logits (B, classes, D, H, W), float32, on the image's device."""
        total: Tensor | None = None
        for member in self.members:
            probabilities = _probabilities_in_place(member(image).float())
            total = probabilities if total is None else total.add_(probabilities)
            del probabilities
        assert total is not None
        # A probability that is no float32 number counts as the smallest: its logarithm has to stay finite.
        return total.div_(len(self.members)).clamp_(min=torch.finfo(total.dtype).tiny).log_()


def _probabilities_in_place(logits: Tensor) -> Tensor:
    """Turn logits (B, classes, ...) into probabilities without a second tensor of their size."""
    logits = logits.sub_(logits.amax(dim=1, keepdim=True)).exp_()
    return logits.div_(logits.sum(dim=1, keepdim=True))
