"""Blocks of a network that go through their feature maps some planes at a time, and leave the answer in their place.

Of the feature maps at full size, each a few hundred megabytes of a head, only the skip is there: what is added to it
and what a convolution makes of it exists for some planes, which stay in a processor's caches. Fresh memory costs more
than the arithmetic that would go through it (``tests/bundle/engines/test_slabwise.py``).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.engines.channels_last import ExactGroupNorm, Moments, is_channels_last, voxels_of
from networks.transformer_unet import UpBlock

SLAB_BYTES = 1 << 25
"""Of the planes of a feature map that are worked on at a time."""
LEAST_BYTES = 1 << 27
"""Of a feature map that is gone through by planes: the memory of a smaller one is not worth the time."""


class SlabwiseUp(UpBlock):
    """``UpBlock`` without gradients, in the place of the skip, whose channels come last; otherwise as it is."""

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, C_in, D, H, W) and a skip (B, C_out, 2D, 2H, 2W), which is lost, to (B, C_out, 2D, 2H, 2W)."""
        known = skip.dtype in (torch.float32, torch.bfloat16) and torch.backends.mkldnn.is_available()
        if torch.is_grad_enabled() or not is_channels_last(skip) or not known:
            return super().forward(x, skip)
        slabs = list(_slabs(skip))
        if len(slabs) < 2:
            refined: Tensor = self.refine(skip.add_(self.up(x)))
            return refined
        conv, norm = self.refine[0], self.refine[1]
        assert isinstance(conv, nn.Conv3d)
        assert isinstance(norm, ExactGroupNorm)
        images = zip(x.split(1), skip.split(1), strict=True)
        return norm.normalise(skip, [self._merge_and_convolve(*image, slabs, conv) for image in images])

    def _merge_and_convolve(self, x: Tensor, skip: Tensor, slabs: list[slice], conv: nn.Conv3d) -> Moments:
        """Add what comes from below to the skip of one image, convolve it in its place, and return its moments."""
        moments = Moments(skip.shape[1])
        merged, waiting = 0, skip.new_empty(0)
        for before, slab, after in zip([None, *slabs], slabs, [*slabs[1:], None], strict=False):
            end = skip.shape[2] if after is None else after.stop
            if merged < end:
                self._merge(x[:, :, merged // 2 : end // 2], skip[:, :, merged:end])
                merged = end
            answer = _convolved(skip, slab, conv)
            if skip.dtype == torch.float32:
                moments.add(voxels_of(answer))
            if before is not None:  # only now, since this slab needed the last plane before it as it was
                skip[:, :, before] = waiting
            waiting = answer
        skip[:, :, slabs[-1]] = waiting
        return moments

    def _merge(self, x: Tensor, skip: Tensor) -> None:
        """Add what comes from below to some planes of the skip of one image, plane by plane of what comes.

        A transposed convolution whose kernel is as large as its stride is a matrix product, whose answers go to eight
        voxels. PyTorch takes another kernel for few planes, which is many times slower.
        """
        weight = self.up.weight.permute(0, 2, 3, 4, 1).flatten(1).to(skip.dtype)  # (C_in, 8 * C_out)
        bias = weight.new_zeros(weight.shape[1]) if self.up.bias is None else self.up.bias.to(skip.dtype).repeat(8)
        _, channels, _, height, width = skip.shape
        for plane, target in zip(x.split(1, dim=2), skip.split(2, dim=2), strict=True):
            answer = torch.addmm(bias, voxels_of(plane).to(skip.dtype), weight)
            answer = answer.view(height // 2, width // 2, 2, 2, 2, channels)
            voxels = target[0].movedim(0, -1).view(2, height // 2, 2, width // 2, 2, channels)
            voxels += answer.permute(2, 0, 3, 1, 4, 5)


def go_slabwise(network: nn.Module) -> nn.Module:
    """Let the blocks of a network that has its channels last go through planes; changed in place."""
    for module in network.modules():
        if type(module) is UpBlock:
            module.__class__ = SlabwiseUp
    return network


def _slabs(skip: Tensor) -> Iterator[slice]:
    """Yield ranges of the planes of feature maps (B, C, D, H, W), an even number of planes each."""
    depth, image_bytes = skip.shape[2], skip.element_size() * skip[:1].numel()
    planes = depth if image_bytes < LEAST_BYTES else 2 * max(1, SLAB_BYTES * depth // (2 * image_bytes))
    for start in range(0, depth, planes):
        yield slice(start, min(start + planes, depth))


def _convolved(x: Tensor, slab: slice, conv: nn.Conv3d) -> Tensor:
    """Return what a 3x3x3 convolution makes of some planes of an image (1, C, D, H, W)."""
    low, high = max(0, slab.start - 1), min(x.shape[2], slab.stop + 1)
    part = x[:, :, low:high]
    ends = (slab.start == 0, slab.stop == x.shape[2])
    if any(ends):
        part = functional.pad(part, (0, 0, 0, 0, int(ends[0]), int(ends[1])))
    weight, bias = (None if value is None else value.to(x.dtype) for value in (conv.weight, conv.bias))
    # Asked for by name: PyTorch would take another kernel for few planes, which is many times slower.
    answer: Tensor = torch.ops.aten.mkldnn_convolution(part, weight, bias, [0, 1, 1], [1, 1, 1], [1, 1, 1], 1)
    return answer
