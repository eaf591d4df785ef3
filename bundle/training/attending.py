"""Which attention kernel a network trains with on a CPU."""

from __future__ import annotations

from torch import nn

FLAG = "use_flash_attention"


def attend_eagerly(network: nn.Module, enabled: bool = True) -> nn.Module:
    """Let a network's attention multiply matrices in place of PyTorch's fused kernel, and return the network.

    The results are the same (``tests/networks/test_attention_matrix.py``); in bfloat16 on a CPU the fused kernel's
    backward pass is so slow that a training step takes a quarter more (docs/brain_training.md). The definition that a
    model is described by stays the fused one, which needs less memory at inference.

    Args:
        network: the network.
        enabled: whether to do it.
    """
    for module in network.modules():
        if enabled and hasattr(module, FLAG):
            setattr(module, FLAG, False)
    return network
