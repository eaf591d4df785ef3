"""Mirror averaging as a wrapper of the network: each window is seen as it is and in the mirror."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

LEFT_RIGHT = 2


class MirroredFeatures:
    """Features of an image and, as further channels, those of its mirror image, see ``Head.averaged_with_mirror``.

    Args:
        network: maps an image (B, C, X, Y, Z) to features (B, channels, X, Y, Z).
    """

    def __init__(self, network: Callable[..., Any]) -> None:
        self.network = network

    def __call__(self, image: Tensor) -> Tensor:
        """Map an image (B, C, X, Y, Z) to features (B, 2 * channels, X, Y, Z)."""
        features: Tensor = self.network(image)
        return torch.cat([features, self.network(image.flip(LEFT_RIGHT)).flip(LEFT_RIGHT)], dim=1)


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
