"""Mirror averaging as a wrapper of the network: each window is seen as it is and in the mirror."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

LEFT_RIGHT = 2


class MirrorAveraged:
    """A network whose logits are the mean of those of an image and of its mirror image.

    Left and right then get the same answer, in twice the time. The image's first axis has to run between them.

    Args:
        network: maps an image (B, C, X, Y, Z) to logits (B, classes, X, Y, Z).
        mirrored: for each class the class on the other side of the body.
    """

    def __init__(self, network: Callable[..., Any], mirrored: Sequence[int]) -> None:
        self.network = network
        self.mirrored = mirrored

    def __call__(self, image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map an image (B, C, X, Y, Z) to logits (B, classes, X, Y, Z)."""
        logits: Tensor = self.network(image, *args, **kwargs)
        other: Tensor = self.network(image.flip(LEFT_RIGHT), *args, **kwargs)
        for channel, opposite in enumerate(self.mirrored):
            logits[:, channel].add_(other[:, opposite].flip(LEFT_RIGHT - 1)).mul_(0.5)
        return logits
