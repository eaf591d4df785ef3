"""The network that ships, made small, and its weights on disk."""

from __future__ import annotations

from pathlib import Path

import torch

from networks import TransformerUNet
from tests.bundle.training.tiny_training import NETWORK

CLASSES = 5


def tiny_network(**options: object) -> TransformerUNet:
    """Return the network in evaluation mode; position and norms are drawn, so that all of them count."""
    network = TransformerUNet(out_channels=CLASSES, **{**NETWORK, **options}).eval()
    for parameter in network.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return network.requires_grad_(False)


def save_weights(network: TransformerUNet, folder: Path) -> Path:
    """Write the state dict to ``folder/model.pt``."""
    path = folder / "model.pt"
    torch.save(network.state_dict(), path)
    return path


# Batches and sizes: multiples of 8 and others, flat and long, one axis near the smallest that exports allow.
BATCHES = ((1, 16, 16, 16), (2, 24, 16, 32), (3, 16, 40, 24), (1, 48, 56, 48), (1, 17, 30, 25), (2, 9, 23, 31),
           (3, 33, 18, 20), (1, 64, 10, 41))  # fmt: skip
