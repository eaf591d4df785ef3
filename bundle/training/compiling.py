"""A network compiled in place, so that its weights keep their names in checkpoints, averages and files."""

from __future__ import annotations

from torch import nn


def compiled(network: nn.Module, enabled: bool = True, backend: str = "inductor") -> nn.Module:
    """Compile the forward pass of a network and return the network itself.

    ``torch.compile(network)`` would wrap it and put a prefix before every name of its state dict. A copy, such as the
    averaged weights, is not compiled.

    Args:
        network: the network.
        enabled: whether to do it.
        backend: of ``torch.compile``.
    """
    if enabled:
        network.compile(backend=backend)
    return network
