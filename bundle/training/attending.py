"""Attention that trains fast on a CPU: matrix products, one head after another, their weights computed again.

In bfloat16 PyTorch's fused kernel has a backward pass so slow on a CPU that a training step takes a quarter more
(docs/brain_training.md). The written-out form is faster but holds the weights of all heads and blocks, 7 GB for a
window of 144 x 176 x 144 voxels; here those of one head of one block are held at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from networks.kernel import Attend


class HeadwiseAttend(Attend):
    """``Attend`` for training: same results, other layouts and masks are left to it."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """Attend, see :class:`networks.kernel.Attend`."""
        plain = attn_mask is None and bias is None and not self.causal and not self.save_attn
        if not plain or not torch.is_grad_enabled():
            return super().forward(q, k, v, attn_mask, bias)
        heads = zip(q.split(1, dim=1), k.split(1, dim=1), v.split(1, dim=1), strict=True)
        return torch.cat([checkpoint(self._one_head, *head, use_reentrant=False) for head in heads], dim=1)

    def _one_head(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.matmul(self.drop_weights(self._weights(q, k, None)), v)


def attend_by_head(network: nn.Module, enabled: bool = True) -> nn.Module:
    """Let a network's attention train by matrix products, a head at a time, and return the network.

    Weights keep their names and values, and the definition that a model is described by stays what it is.

    Args:
        network: the network.
        enabled: whether to do it.
    """
    for module in network.modules():
        if enabled and type(module) is Attend:
            module.__class__ = HeadwiseAttend
    return network
