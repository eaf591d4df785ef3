"""Windows: the whole head at once where it fits, sliding windows where it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor


class WindowInferer(SlidingWindowInferer):
    """MONAI's sliding window, with a window that never exceeds the image.

    An image that fits into ``roi_size`` is one window of its own size: no padding, no stitching, the whole context.

    Args:
        roi_size: largest window in voxels.
        overlap: share of a window that the next one covers.
        mode: ``"gaussian"`` or ``"constant"`` weights where windows overlap.
        kwargs: as ``monai.inferers.SlidingWindowInferer``.
    """

    def __init__(self, roi_size: Sequence[int], overlap: float = 0.25, mode: str = "gaussian", **kwargs: Any) -> None:
        super().__init__(roi_size, overlap=overlap, mode=mode, **kwargs)
        self.largest_roi = tuple(roi_size)

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Map an image (B, C, X, Y, Z) to logits (B, classes, X, Y, Z).

        Of a network that also gives outputs for the scan, only the logits are kept.
        """

        def logits(window: Tensor, *more: Any, **options: Any) -> Any:
            out = network(window, *more, **options)
            return out[0] if isinstance(out, tuple) else out

        image = inputs.as_subclass(torch.Tensor)
        size = image.shape[2:]
        if all(length <= largest for length, largest in zip(size, self.largest_roi, strict=True)):
            return logits(image, *args, **kwargs)
        self.roi_size = tuple(min(length, largest) for length, largest in zip(size, self.largest_roi, strict=True))
        return super().__call__(image, logits, *args, **kwargs)
