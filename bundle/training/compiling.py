"""What makes a training fast on a GPU: group norm compiled, and convolutions as cuDNN finds them fastest.

PyTorch's group norm takes one block of threads for each group and item: 8 of the 132 processors of a GPU for a head of
5 million voxels, and a copy of channels-last features before and after. To compile the whole network takes over a
minute for each size of window (docs/brain_training.md); the norm alone is compiled in seconds, for all sizes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def normalise_groups(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return the group norm of features (B, C, D, H, W), of their type; moments are float32 at least."""
    parts = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(1, (groups, -1))
    variance, mean = torch.var_mean(parts, dim=(2, 3, 4, 5), correction=0, keepdim=True)
    normed = ((parts - mean) * torch.rsqrt(variance + eps)).flatten(1, 2)
    shape = (1, -1, 1, 1, 1)
    result: Tensor = normed * weight.reshape(shape) + bias.reshape(shape)
    return result.to(x.dtype)


class CompiledGroupNorm(nn.GroupNorm):
    """Group norm of five-dimensional features by :func:`normalise_groups`, compiled."""

    compute: Callable[..., Tensor]

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, D, H, W)."""
        return self.compute(input, self.num_groups, self.weight, self.bias, self.eps)


def compile_group_norm(network: nn.Module, enabled: bool = True, backend: str = "inductor") -> nn.Module:
    """Let a network's group norms be compiled, in place, and return the network; weights keep their names.

    Args:
        network: the network.
        enabled: whether to do it.
        backend: of ``torch.compile``.
    """
    if not enabled:
        return network
    compute = torch.compile(normalise_groups, backend=backend, dynamic=True)
    for module in network.modules():
        if type(module) is nn.GroupNorm and module.affine:
            module.__class__ = CompiledGroupNorm
            module.compute = compute  # type: ignore[assignment]
        elif isinstance(module, nn.LeakyReLU):
            module.inplace = False  # what is normalised may be kept for the backward pass
    return network


def allow_fast_convolutions() -> None:
    """Let cuDNN try its kernels for each size and take the fastest, and TF32 where numbers are float32; after seeding.

    Two trainings with one seed then differ by rounding.
    """
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
