"""Windows: the whole head at once where it fits, sliding windows where it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from monai.utils import ensure_tuple_rep
from torch import Tensor

from bundle.inference.mirror import MirrorAveraged
from bundle.inference.slabs import Windows
from bundle.machine import freed_memory_kept


class WindowInferer(SlidingWindowInferer):
    """MONAI's sliding window, with a window that never exceeds the image.

    An image that fits into ``roi_size`` is one window of its own size: no padding, no stitching, the whole context.

    Args:
        roi_size: largest window in voxels.
        overlap: share of a window that the next one covers.
        mode: ``"gaussian"`` or ``"constant"`` weights where windows overlap.
        mirrored: for each class the class on the other side of the body; given, the logits of each window and its
            mirror image are averaged, see ``MirrorAveraged``.
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

    def windows(self, size: Sequence[int]) -> Windows:
        """Return where the windows of an image of some shape lie."""
        return Windows(
            tuple(size),
            tuple(min(length, largest) for length, largest in zip(size, self.largest_roi, strict=True)),
            ensure_tuple_rep(self.overlap, len(size)),
            str(self.mode),
            int(self.sw_batch_size),
            self.sigma_scale,
        )

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Map an image (B, C, X, Y, Z) to logits (B, classes, X, Y, Z)."""
        return self.logits(inputs, network, *args, **kwargs)

    def logits(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Map an image (B, C, X, Y, Z) to logits (B, classes, X, Y, Z), in MONAI's sliding window."""
        image = inputs.as_subclass(torch.Tensor)
        windows = self.windows(image.shape[2:])
        with memory_for(network, image):
            network = self.averaging(network)
            if windows.single:
                return network(image, *args, **kwargs)
            self.roi_size = windows.window
            return super().__call__(image, network, *args, **kwargs)

    def averaging(self, network: Callable[..., Any]) -> Callable[..., Any]:
        """Return a network, or the average of it and its mirror image where that is wanted."""
        return network if self.mirrored is None else MirrorAveraged(network, self.mirrored)


def memory_for(network: Callable[..., Any], image: Tensor) -> AbstractContextManager[None]:
    """Return the context in which freed memory is kept while a network computes on a CPU.

    Args:
        network: what computes.
        image: its input, on the device.
    """
    keeping = getattr(network, "engine", "torch") in ("torch", "torchscript", "openvino")
    return freed_memory_kept() if keeping and image.device.type == "cpu" else nullcontext()
