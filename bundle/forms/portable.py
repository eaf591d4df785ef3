"""A network made ready for other runtimes: the same function in operations that all of them compute exactly."""

from __future__ import annotations

import copy

from torch import Tensor, nn


class SteppedGroupNorm(nn.Module):
    """Group norm whose mean and variance are taken axis by axis.

    Runtimes turn PyTorch's group norm into one sum over the millions of voxels of a group and hold it in float32; the
    logits of a whole head are then off by 0.03. Sums over one axis at a time stay short.

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
        channels = x.shape[1]
        merged = channels // self.num_groups * x.shape[2]
        # Lists, which TorchScript can add: the tracer compiles a network's ``torch.jit.export`` methods.
        grouped = x.reshape([x.shape[0], self.num_groups, merged] + list(x.shape[3:]))  # noqa: RUF005
        centred = grouped - _mean_by_axis(grouped)
        normalised = (centred * (_mean_by_axis(centred * centred) + self.eps).rsqrt()).reshape(x.shape)
        per_channel = [channels] + [1] * (x.dim() - 2)
        return normalised * self.weight.reshape(per_channel) + self.bias.reshape(per_channel)


def _mean_by_axis(grouped: Tensor) -> Tensor:
    """Return the mean over all axes but the first two, (B, G, ...) -> (B, G, 1, ...)."""
    for axis in range(grouped.dim() - 1, 1, -1):
        grouped = grouped.mean(axis, keepdim=True)
    return grouped


def portable(network: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode, every affine group norm replaced by ``SteppedGroupNorm``."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.GroupNorm) and child.affine:
                setattr(parent, name, SteppedGroupNorm(child))
    return network
