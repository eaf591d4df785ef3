"""A small ViT, images for it, and the arguments that its head refuses."""

from __future__ import annotations

from itertools import product

import torch
from torch import nn

from networks import ViT
from networks.pooling import GLOBAL_POOLS

FORMS = list(product((True, False), repeat=2))  # use_combined_linear, use_flash_attention
IMAGE, PATCH = {2: (12, 20), 3: (8, 6, 12)}, {2: (4, 5), 3: (4, 2, 3)}
SMALL = {"in_channels": 1, "hidden_size": 24, "mlp_dim": 40, "num_layers": 2, "num_heads": 2}


def make_vit(dims: int = 2, seed: int = 0, **options) -> ViT:
    torch.manual_seed(seed)
    sizes = {"img_size": IMAGE[dims], "patch_size": PATCH[dims], "spatial_dims": dims}
    if "classification" not in options:
        options = {"global_pool": "token", **options}
    return ViT(**{**SMALL, **sizes, **options}).eval()


@torch.no_grad()
def scramble(network: nn.Module) -> nn.Module:
    """Move every trained parameter off its initial value, so that a bias, norm or class token left out shows."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in network.named_parameters():
        if "position_embeddings" not in name:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return network


def make_image(*size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(1))


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


LEGAL_POOLS = "global_pool must be one of " + ", ".join(map(repr, GLOBAL_POOLS))
BAD_HEADS = [
    (3, "map ", f"{LEGAL_POOLS}, got 'map '"),
    (3, "Map", f"{LEGAL_POOLS}, got 'Map'"),
    (3, "mean", f"{LEGAL_POOLS}, got 'mean'"),
    (-1, "avg", "num_classes must be an integer of at least 0, got -1"),
    (1.5, "map", "num_classes must be an integer of at least 0, got 1.5"),
    (True, "", "num_classes must be an integer of at least 0, got True"),
    (3, "token", "global_pool 'token' needs a class token, got class_token False"),
]
