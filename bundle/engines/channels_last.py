"""Channels last on a CPU, where 3D convolutions are then faster and need less memory, with layers that stay exact.

PyTorch's own group norm sums the squares of a whole group in float32 when channels come last: values are 1e-2 off for
the millions of voxels of a head, and the labels of some of them with it. Here the squares are the diagonals of matrix
products of a thousand voxels each, added up in float64: within 5e-6 of a float64 computation, or twice what the
contiguous group norm is off (``tests/bundle/engines/test_channels_last.py``). bfloat16 is coarser than that error and
left as it is.

A convolution of one voxel is a matrix product, whose answer can have its channels first again, as what follows a
network wants its logits: half the time of PyTorch's, which reorders.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.engines.head import is_pointwise

VOXELS = 1024
"""Voxels whose squares are summed in float32 before float64 takes over."""
PART = 16384
"""Voxels mapped at a time by a pointwise convolution: their features fit a processor's cache."""
TOGETHER = 1 << 20
"""Elements worked on at a time: they stay in a processor's caches from one step to the next."""
LEAST_SPREAD = 0.1
"""Variance as a share of the mean square below which their difference would lose digits."""


def is_channels_last(x: Tensor) -> bool:
    """Tell whether feature maps (B, C, D, H, W) of several channels have these last in memory."""
    return x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()


class ExactGroupNorm(nn.GroupNorm):
    """Group norm of channels-last feature maps, without gradients; parameters and results of ``torch.nn.GroupNorm``.

    Other layouts and number formats are left to PyTorch.

    Attributes:
        in_place: whether nothing else uses its input, so that its answer may take the input's place: fresh memory for
            the feature maps of a head costs four times what their normalisation does.
        slope: that of a leaky ReLU which it applies, too, or ``None``.
    """

    in_place = False
    slope: float | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise feature maps (B, C, D, H, W)."""
        if torch.is_grad_enabled() or not is_channels_last(x):
            return self._activated(super().forward(x))
        moments = [Moments(x.shape[1]) for _ in x]
        if x.dtype == torch.float32:
            for image, found in zip(x.split(1), moments, strict=True):
                found.add(voxels_of(image))
        return self.normalise(x, moments)

    def normalise(self, x: Tensor, moments: Sequence[Moments]) -> Tensor:
        """Normalise feature maps (B, C, D, H, W) whose channels come last, by the moments of each image."""
        if x.dtype != torch.float32:
            return self._activated(super().forward(x))
        answer = x if self.in_place else torch.empty_like(x)
        for image, target, found in zip(x.split(1), answer.split(1), moments, strict=True):
            self._normalise(voxels_of(image), voxels_of(target), found)
        return answer

    def _activated(self, x: Tensor) -> Tensor:
        if self.slope is None:
            return x
        return functional.leaky_relu(x, self.slope, inplace=not torch.is_grad_enabled())

    def _normalise(self, voxels: Tensor, target: Tensor, moments: Moments) -> None:
        """Write the features of an image's voxels, shape (N, C), to a target that may be where they are."""
        mean, square = moments.of_groups(self.num_groups)
        variance = square - mean.square()
        if bool((variance < LEAST_SPREAD * square).any()):
            exact = functional.group_norm(voxels.t()[None], self.num_groups, self.weight, self.bias, self.eps)
            target.copy_(self._activated(exact[0]).t())
            return
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        whole = len(voxels) // VOXELS * VOXELS
        row, rows = (-1, VOXELS * len(scale)), _rows(len(scale))
        factor, term = (values.float().repeat(VOXELS) for values in (scale, shift))
        parts = zip(*(value[:whole].view(row).split(rows) for value in (voxels, target)), strict=True)
        for part, out in parts:
            self._activated(torch.addcmul(term, part, factor, out=out))
        rest = target[whole:]
        self._activated(torch.addcmul(shift.float(), voxels[whole:], scale.float(), out=rest))


class Moments:
    """Sums of the features of voxels and of their squares, by channel, in float64.

    Args:
        channels: number of features.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sums, self.squares = torch.zeros(2, channels, dtype=torch.float64)

    def add(self, voxels: Tensor) -> None:
        """Add voxels by their features, shape (N, C), float32."""
        self.count += len(voxels)
        whole = len(voxels) // VOXELS * VOXELS
        rest = voxels[whole:].double()
        self.sums += rest.sum(dim=0)
        self.squares += rest.square().sum(dim=0)
        with torch.autocast(voxels.device.type, enabled=False):
            for parts in voxels[:whole].view(-1, VOXELS, voxels.shape[1]).split(_rows(voxels.shape[1])):
                products = torch.bmm(parts.transpose(1, 2), parts)  # (K, C, C)
                self.sums += parts.sum(dim=1).double().sum(dim=0)
                self.squares += products.diagonal(dim1=1, dim2=2).double().sum(dim=0)

    def of_groups(self, groups: int) -> tuple[Tensor, Tensor]:
        """Return mean and mean square of each channel's group, (C,) each."""
        in_group = len(self.sums) // groups
        mean, square = (
            total.view(groups, in_group).sum(dim=1).repeat_interleave(in_group) / (self.count * in_group)
            for total in (self.sums, self.squares)
        )
        return mean, square


def _rows(channels: int) -> int:
    """Return how many times ``VOXELS`` voxels are worked on at a time."""
    return max(1, TOGETHER // (VOXELS * channels))


def voxels_of(image: Tensor) -> Tensor:
    """Return the features of the voxels of an image (1, C, D, H, W), shape (N, C), a view where channels come last."""
    return image.movedim(1, -1).flatten(0, 3)


class PointwiseConv(nn.Conv3d):
    """A 1x1x1 convolution of channels-last feature maps as a matrix product; the answer has its channels first.

    Without gradients it goes through some voxels at a time, and widens those of fewer bits than the weights.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map feature maps (B, C_in, D, H, W) to (B, C_out, D, H, W)."""
        autocast = torch.is_autocast_enabled(x.device.type)
        narrow = x.dtype != self.weight.dtype and not autocast
        if x.dim() != 5 or x.is_contiguous() or x.stride(1) != 1:
            return super().forward(x.to(self.weight.dtype) if narrow else x)
        voxels = x.movedim(1, -1).flatten(1, 3)  # (B, N, C_in), a view where nothing was cropped
        weight, bias = self.weight.flatten(1), self.bias
        if not torch.is_grad_enabled() and not autocast:
            answer = self._in_parts(voxels, weight)
        else:
            # Not matmul: of weights that could have a gradient it makes (N, C_out), and reorders that.
            weight = weight.expand(len(x), -1, -1)
            voxels = voxels.to(weight.dtype).transpose(1, 2) if narrow else voxels.transpose(1, 2)
            answer = torch.bmm(weight, voxels) if bias is None else torch.baddbmm(bias[:, None], weight, voxels)
        return answer.view(*answer.shape[:2], *x.shape[2:])

    def _in_parts(self, voxels: Tensor, weight: Tensor) -> Tensor:
        """Map voxels (B, N, C_in) to (B, C_out, N) in the weights' number format, some of them at a time."""
        bias = weight.new_zeros(len(weight), 1) if self.bias is None else self.bias[:, None]
        answer = weight.new_empty(len(voxels), len(weight), voxels.shape[1])
        for image, target in zip(voxels, answer, strict=True):
            for part, out in zip(image.split(PART), target.split(PART, dim=1), strict=True):
                torch.addmm(bias, weight, part.to(weight.dtype).t(), out=out)
        return answer


class OneChannelConv(nn.Conv3d):
    """A convolution of images of one channel whose answer has its channels last, without gradients.

    To PyTorch such an image has its channels first as well as last, and it chooses first: what follows then reorders
    its feature maps, or adds maps of two orders, which is slow. It also has a slow kernel for small ones, left out.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 1, D, H, W) to feature maps (B, C_out, D, H, W)."""
        usual = x.dim() != 5 or x.shape[1] != 1 or torch.is_grad_enabled() or not torch.backends.mkldnn.is_available()
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if usual or dtype not in (torch.float32, torch.bfloat16):
            return super().forward(x)
        x, weight = x.to(dtype), self.weight.to(dtype)
        bias = None if self.bias is None else self.bias.to(dtype)
        batch, _, depth, height, width = x.shape
        last = (depth * height * width, 1, height * width, width, 1)
        x = x.contiguous().as_strided((batch, 1, depth, height, width), last)
        padding, stride, dilation = (list(size) for size in (self.padding, self.stride, self.dilation))
        answer: Tensor = torch.ops.aten.mkldnn_convolution(x, weight, bias, padding, stride, dilation, 1)
        return answer


def to_channels_last(network: nn.Module) -> nn.Module:
    """Let a network compute with channels last, exactly; its parameters keep their names and values.

    Returns:
        ``network``, changed in place: the weights of convolutions are laid out anew, and group norms, convolutions of
        one channel and pointwise ones are those of this module, which does leaky ReLUs after group norms as well.
    """
    for module in list(network.modules()):
        if type(module) is nn.GroupNorm:
            module.__class__ = ExactGroupNorm
        elif type(module) is nn.Conv3d and is_pointwise(module):
            module.__class__ = PointwiseConv
        elif type(module) is nn.Conv3d and _has_one_channel(module):
            module.__class__ = OneChannelConv
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif type(module) is nn.Sequential:
            _join(module)
    return network


def _join(parts: nn.Sequential) -> None:
    """Let each group norm that follows a convolution work in its place, and do what a leaky ReLU after it would."""
    for index, (before, norm) in enumerate(pairwise(parts)):
        if isinstance(before, (nn.Conv3d, nn.ConvTranspose3d)) and type(norm) in (nn.GroupNorm, ExactGroupNorm):
            norm.__class__ = ExactGroupNorm
            assert isinstance(norm, ExactGroupNorm)
            norm.in_place = True
            after = parts[index + 2] if index + 2 < len(parts) else None
            if type(after) is nn.LeakyReLU:
                norm.slope = after.negative_slope
                parts[index + 2] = nn.Identity()


def _has_one_channel(module: nn.Conv3d) -> bool:
    """Tell whether a convolution takes images of one channel and pads them, if at all, with zeros by numbers."""
    return module.in_channels == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
