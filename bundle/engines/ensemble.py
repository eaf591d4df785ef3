"""Several networks as one: the average of their class probabilities, one network's logits at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
        outputs = {getattr(member, "num_outputs", 0) for member in members}
        self.num_outputs = outputs.pop() if len(outputs) == 1 else 0

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, C, D, H, W) to logits (B, classes, D, H, W), float32, on the image's device."""
        return self._mean(lambda member: member(image))

    def forward_with_outputs(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of an image, and the mean of the members' outputs for the whole scan."""
        outputs: list[Tensor] = []

        def logits_of(member: EngineNetwork) -> Tensor:
            logits, found = member.forward_with_outputs(image)
            outputs.append(found)
            return logits

        return self._mean(logits_of), torch.stack(outputs).mean(dim=0)

    def _mean(self, logits_of: Callable[..., Tensor]) -> Tensor:
        total: Tensor | None = None
        for member in self.members:
            probabilities = _probabilities_in_place(logits_of(member).float())
            total = probabilities if total is None else total.add_(probabilities)
            del probabilities
        assert total is not None
        # A probability that is no float32 number counts as the smallest: its logarithm has to stay finite.
        return total.div_(len(self.members)).clamp_(min=torch.finfo(total.dtype).tiny).log_()


def _probabilities_in_place(logits: Tensor) -> Tensor:
    """Turn logits (B, classes, ...) into probabilities without a second tensor of their size."""
    logits = logits.sub_(logits.amax(dim=1, keepdim=True)).exp_()
    return logits.div_(logits.sum(dim=1, keepdim=True))
