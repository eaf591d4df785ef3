"""A network seen by ``torch.export``: what several forms are made of."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

# Sizes that are no multiple of 8, so that padding is in the program, and differ, so that no two axes are tied.
EXAMPLE_SIZE = (40, 49, 58)
FREE_AXES = (0, 2, 3, 4)


def example_input(network: nn.Module, batch: int = 2, size: tuple[int, int, int] = EXAMPLE_SIZE) -> Tensor:
    """Return a random image (B, in_channels, D, H, W) for ``network``; one channel where it does not say."""
    return torch.rand(batch, int(getattr(network, "in_channels", 1)), *size)


def export_program(network: nn.Module) -> ExportedProgram:
    """Export a network in evaluation mode, batch and spatial axes free.

    Args:
        network: maps (B, C, D, H, W) to logits; see ``portable``.
    """
    axes = dict.fromkeys(FREE_AXES, Dim.AUTO)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (example_input(network),), dynamic_shapes=(axes,))
