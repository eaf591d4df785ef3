"""Windows: the whole head at once where it fits, sliding windows where it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from bundle.machine import freed_memory_kept

LEFT_RIGHT = 2


class WindowInferer(SlidingWindowInferer):
    """MONAI's sliding window, with a window that never exceeds the image.

    An image that fits into ``roi_size`` is one window of its own size: no padding, no stitching, the whole context.

    Args:
        roi_size: largest window in voxels.
        overlap: share of a window that the next one covers.
        mode: ``"gaussian"`` or ``"constant"`` weights where windows overlap.
        mirrored: for each class the class on the other side of the body. Given, the logits of image and mirror image
            are averaged: left and right then get the same answer, in twice the time. The image's first axis has to
            run between left and right.
        kwargs: as ``monai.inferers.SlidingWindowInferer``.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        overlap: float = 0.25,
        mode: str = "gaussian",
        mirrored: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(roi_size, overlap=overlap, mode=mode, **kwargs)
        self.largest_roi = tuple(roi_size)
        self.mirrored = mirrored

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Map an image (B, C, X, Y, Z) to logits (B, classes, X, Y, Z)."""
        image = inputs.as_subclass(torch.Tensor)
        in_torch = getattr(network, "engine", "torch") in ("torch", "torchscript")
        with freed_memory_kept() if in_torch and image.device.type == "cpu" else nullcontext():
            return self._both_sides(image, network, *args, **kwargs)

    def _both_sides(self, image: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = self._one_side(image, network, *args, **kwargs)
        if self.mirrored is not None:
            other = self._one_side(image.flip(LEFT_RIGHT), network, *args, **kwargs).flip(LEFT_RIGHT)
            for channel, opposite in enumerate(self.mirrored):
                result[:, channel].add_(other[:, opposite]).mul_(0.5)
        return result

    def _one_side(self, image: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        size = image.shape[2:]
        if all(length <= largest for length, largest in zip(size, self.largest_roi, strict=True)):
            return network(image, *args, **kwargs)
        self.roi_size = tuple(min(length, largest) for length, largest in zip(size, self.largest_roi, strict=True))
        return super().__call__(image, network, *args, **kwargs)
