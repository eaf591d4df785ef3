"""A network made ready for other runtimes: the same function in operations that all of them compute exactly."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from networks.position import PositionGrid


class SteppedGroupNorm(nn.Module):
    """Group norm whose mean and variance are taken axis by axis, and no feature map is given another shape.

    Runtimes turn PyTorch's group norm into one sum over the millions of voxels of a group and hold it in float32; the
    logits of a whole head are then off by 0.03. Sums over one axis at a time stay short. To merge the channels of a
    group into one axis would make them reorder each feature map, whose channels come last there, and back.

    Args:
        norm: the norm that is replaced; its weight and bias are shared.

    Shape: (B, C, ...) -> (B, C, ...), at least one spatial axis.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.num_groups = norm.num_groups
        self.eps = norm.eps
        self.weight = norm.weight
        self.bias = norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        # Lists, which TorchScript can add: the tracer compiles a network's ``torch.jit.export`` methods.
        per_channel = [x.shape[1]] + [1] * (x.dim() - 2)
        centred = x - self._mean(x)
        scale = (self._mean(centred * centred) + self.eps).rsqrt() * self.weight.reshape(per_channel)
        return centred * scale + self.bias.reshape(per_channel)

    def _mean(self, x: Tensor) -> Tensor:
        """Return the mean of each channel's group, (B, C, ...) -> (B, C, 1, ...)."""
        shape = [x.shape[0], x.shape[1]] + [1] * (x.dim() - 2)
        for axis in range(x.dim() - 1, 1, -1):
            x = x.mean(axis, keepdim=axis % 2 == 0)  # in turns: OpenVINO joins means that are alike in this to one
        grouped = [shape[0], self.num_groups, shape[1] // self.num_groups]
        return x.reshape(grouped).mean(2, keepdim=True).expand(grouped).reshape(shape)


class PointwiseProduct(nn.Module):
    """A 1x1x1 convolution as a matrix product, whose answer has its channels first.

    Runtimes compute the convolution with channels last and then reorder the answer, which takes longer than the product
    for the logits of many classes. The channels of what is multiplied become its last axis, as such runtimes have them,
    so that nothing is reordered for the product either.

    Args:
        convolution: the convolution that is replaced; its weight and bias are shared.

    Shape: (B, C_in, ...) -> (B, C_out, ...).
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.weight = convolution.weight
        self.bias = convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map feature maps."""
        voxels = x.movedim(1, -1).flatten(1, -2)  # (B, N, C_in)
        answer = torch.matmul(self.weight.flatten(1), voxels.transpose(1, 2))
        if self.bias is not None:
            answer = answer + self.bias[:, None]
        return answer.reshape([x.shape[0], self.weight.shape[0]] + list(x.shape[2:]))  # noqa: RUF005


class SteppedPositionGrid(nn.Module):
    """A position grid resampled axis by axis, by matrix products.

    OpenVINO resamples three axes at once wrongly where it does so while it compiles for a known size: by 0.1 from
    12 x 14 x 12 points to 12 x 16 x 10 tokens (2026.4.1; ``tests/bundle/forms/test_portable.py``).

    Args:
        position: the grid that is replaced; its points are shared.
    """

    def __init__(self, position: PositionGrid) -> None:
        super().__init__()
        self.grid = position.grid

    def forward(self, depth: int, height: int, width: int) -> Tensor:
        """Return the positions of a token grid, shape (1, C, depth, height, width)."""
        x = self.grid[0]
        for size in [width, height, depth]:  # the last axis becomes the first one, three times
            kept, points = x.shape[:3], x.shape[3]
            x = torch.matmul(x.reshape([kept[0] * kept[1] * kept[2], points]), self._shares(points, size).t())
            x = x.reshape([kept[0], kept[1], kept[2], size]).movedim(-1, 1)
        return x[None]

    def _shares(self, points: int, size: int) -> Tensor:
        """Return the share that each point has in each token of an axis, (size, points), in linear resampling."""
        tokens = torch.arange(size, device=self.grid.device).to(self.grid.dtype)
        places = ((tokens + 0.5) * points / size - 0.5).clamp(0, points - 1)
        distances = places[:, None] - torch.arange(points, device=self.grid.device).to(self.grid.dtype)
        return (1 - distances.abs()).clamp(min=0)


def portable(network: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode for other runtimes.

    Every affine group norm is replaced by ``SteppedGroupNorm``, every position grid by ``SteppedPositionGrid``, and
    every 1x1x1 convolution that gives more channels than it takes, as the one that gives the logits does, by
    ``PointwiseProduct``.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.GroupNorm) and child.affine:
                setattr(parent, name, SteppedGroupNorm(child))
            elif isinstance(child, PositionGrid):
                setattr(parent, name, SteppedPositionGrid(child))
            elif isinstance(child, nn.Conv3d) and _is_pointwise(child) and child.out_channels > child.in_channels:
                setattr(parent, name, PointwiseProduct(child))
    return network


def _is_pointwise(convolution: nn.Conv3d) -> bool:
    one = (1, 1, 1)
    whole = convolution.groups == 1 and not any(convolution.padding)
    return whole and convolution.kernel_size == one and convolution.stride == one
