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

import torch
from torch import Tensor, nn
from torch.nn import functional

VOXELS = 1024
"""Voxels whose squares are summed in float32 before float64 takes over."""
WIDENED = 16384
"""Voxels whose features are widened at a time: they fit a processor's cache."""
LEAST_SPREAD = 0.1
"""Variance as a share of the mean square below which their difference would lose digits."""


def is_channels_last(x: Tensor) -> bool:
    """Tell whether feature maps (B, C, D, H, W) of several channels have these last in memory."""
    return x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()


class ExactGroupNorm(nn.GroupNorm):
    """Group norm of channels-last feature maps, without gradients; parameters and results of ``torch.nn.GroupNorm``.

    Other layouts and number formats are left to PyTorch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise feature maps (B, C, D, H, W)."""
        if not is_channels_last(x) or x.dtype != torch.float32 or torch.is_grad_enabled():
            return super().forward(x)
        if len(x) > 1:
            return torch.cat([self(image) for image in x.split(1)])
        mean, square = self._moments(x)
        variance = square - mean.square()
        if bool((variance < LEAST_SPREAD * square).any()):
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last_3d)
        # With moments given, batch norm is the multiplication and addition in one pass over the voxels.
        return functional.batch_norm(
            x, mean.float(), variance.float(), self.weight, self.bias, training=False, eps=self.eps
        )

    def _moments(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and mean square of each channel's group, float64, (C,) each, of one image (1, C, D, H, W)."""
        voxels = image.movedim(1, -1).flatten(0, 3)  # (N, C), a view
        count, channels = voxels.shape
        whole = count // VOXELS * VOXELS
        parts, rest = voxels[:whole].view(-1, VOXELS, channels), voxels[whole:].double()
        with torch.autocast(image.device.type, enabled=False):
            products = torch.bmm(parts.transpose(1, 2), parts)  # (K, C, C)
        sums = rest.sum(dim=0) + parts.sum(dim=1).double().sum(dim=0)
        squares = rest.square().sum(dim=0) + products.diagonal(dim1=1, dim2=2).double().sum(dim=0)
        in_group = channels // self.num_groups
        mean, square = (
            total.view(self.num_groups, in_group).sum(dim=1).repeat_interleave(in_group) / (count * in_group)
            for total in (sums, squares)
        )
        return mean, square


class PointwiseConv(nn.Conv3d):
    """A 1x1x1 convolution of channels-last feature maps as a matrix product; the answer has its channels first.

    Without gradients, feature maps of fewer bits than the weights are widened as the product needs them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map feature maps (B, C_in, D, H, W) to (B, C_out, D, H, W)."""
        narrow = x.dtype != self.weight.dtype and not torch.is_autocast_enabled(x.device.type)
        if x.dim() != 5 or x.is_contiguous() or x.stride(1) != 1:
            return super().forward(x.to(self.weight.dtype) if narrow else x)
        voxels = x.movedim(1, -1).flatten(1, 3)  # (B, N, C_in), a view where nothing was cropped
        weight = self.weight.flatten(1)
        if narrow and not torch.is_grad_enabled():
            answer = self._widened(voxels, weight)
        else:
            # Not matmul: of weights that could have a gradient it makes (N, C_out), and reorders that.
            weight = weight.expand(len(x), -1, -1)
            voxels = voxels.to(weight.dtype).transpose(1, 2) if narrow else voxels.transpose(1, 2)
            bias = self.bias
            answer = torch.bmm(weight, voxels) if bias is None else torch.baddbmm(bias[:, None], weight, voxels)
        return answer.view(*answer.shape[:2], *x.shape[2:])

    def _widened(self, voxels: Tensor, weight: Tensor) -> Tensor:
        """Map voxels (B, N, C_in) to (B, C_out, N) in the weights' number format, some of them at a time."""
        bias = weight.new_zeros(len(weight), 1) if self.bias is None else self.bias[:, None]
        answer = weight.new_empty(len(voxels), len(weight), voxels.shape[1])
        for image, target in zip(voxels, answer, strict=True):
            for part, out in zip(image.split(WIDENED), target.split(WIDENED, dim=1), strict=True):
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
        one channel and pointwise ones are those of this module.
    """
    for module in network.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = ExactGroupNorm
        elif type(module) is nn.Conv3d and _is_pointwise(module):
            module.__class__ = PointwiseConv
        elif type(module) is nn.Conv3d and _has_one_channel(module):
            module.__class__ = OneChannelConv
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
    return network


def _is_pointwise(module: nn.Conv3d) -> bool:
    """Tell whether a convolution has one voxel, no stride, no padding and one group."""
    sizes = (*module.kernel_size, *module.stride)
    padding = module.padding if isinstance(module.padding, tuple) else (0,)
    return set(sizes) == {1} and not any(padding) and module.groups == 1


def _has_one_channel(module: nn.Conv3d) -> bool:
    """Tell whether a convolution takes images of one channel and pads them, if at all, with zeros by numbers."""
    return module.in_channels == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
