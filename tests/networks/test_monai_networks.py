"""MONAI's own networks, built of our blocks in place of its own, give what they give with its own."""

from __future__ import annotations

import inspect
import sys

import pytest
import torch
from monai.networks import blocks, nets
from torch import nn

import networks

PLACES = {
    "monai.networks.blocks.transformerblock": ("SABlock", "CrossAttentionBlock"),
    "monai.networks.blocks.spatialattention": ("SABlock",),
    "monai.networks.nets.transformer": ("TransformerBlock",),
    "monai.networks.nets.diffusion_model_unet": ("SABlock", "CrossAttentionBlock"),
    "monai.networks.nets.vit": ("PatchEmbeddingBlock", "TransformerBlock"),
    "monai.networks.nets.vitautoenc": ("PatchEmbeddingBlock", "TransformerBlock"),
    "monai.networks.nets.masked_autoencoder_vit": ("PatchEmbeddingBlock", "TransformerBlock"),
}
"""Modules of MONAI that build blocks of another module, and the blocks."""
BLOCKS = {name: getattr(blocks, name) for names in PLACES.values() for name in names}
UNET = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 1, "num_res_blocks": 1, "channels": (8, 16),
    "attention_levels": (False, True), "norm_num_groups": 8, "num_head_channels": 8,
}  # fmt: skip
CROSS = {"with_conditioning": True, "cross_attention_dim": 12, "transformer_num_layers": 2}
CONTROL = {
    **{key: value for key, value in UNET.items() if key != "out_channels"},
    "conditioning_embedding_num_channels": (8, 16),
}
CODES = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "num_res_blocks": (1, 1), "channels": (8, 16)}
CODES |= {"attention_levels": (False, True), "latent_channels": 4, "norm_num_groups": 8}
IMAGES = {"in_channels": 1, "hidden_size": 24, "mlp_dim": 40, "num_layers": 2, "num_heads": 2}
TOKENS = {"num_tokens": 20, "max_seq_len": 16, "attn_layers_dim": 24, "attn_layers_depth": 2, "attn_layers_heads": 3}


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def words(*shape: int) -> torch.Tensor:
    return torch.randint(0, 20, shape, generator=torch.Generator().manual_seed(1))


STEPS = torch.tensor([3, 700])
CASES = {
    "transformer": (nets.DecoderOnlyTransformer, TOKENS, lambda: (words(2, 9),)),
    "transformer_cross": (
        nets.DecoderOnlyTransformer,
        {**TOKENS, "with_cross_attention": True},
        lambda: (words(2, 9), noise(2, 5, 24)),
    ),
    "autoencoder": (nets.AutoencoderKL, CODES, lambda: (noise(2, 1, 16, 16),)),
    "autoencoder_3d": (nets.AutoencoderKL, {**CODES, "spatial_dims": 3}, lambda: (noise(1, 1, 8, 8, 8),)),
    "diffusion": (nets.DiffusionModelUNet, UNET, lambda: (noise(2, 1, 16, 16), STEPS)),
    "diffusion_cross": (
        nets.DiffusionModelUNet,
        {**UNET, **CROSS, "upcast_attention": True},
        lambda: (noise(2, 1, 16, 16), STEPS, noise(2, 3, 12)),
    ),
    "controlnet": (nets.ControlNet, CONTROL, lambda: (noise(2, 1, 16, 16), STEPS, noise(2, 1, 32, 32))),
    "controlnet_cross": (
        nets.ControlNet,
        {**CONTROL, **CROSS},
        lambda: (noise(2, 1, 16, 16), STEPS, noise(2, 1, 32, 32), 1.0, noise(2, 3, 12)),
    ),
    "spade_diffusion": (
        nets.SPADEDiffusionModelUNet,
        {**UNET, "label_nc": 3, "spade_intermediate_channels": 8},
        lambda: (noise(2, 1, 16, 16), STEPS, noise(2, 3, 16, 16)),
    ),
    "vit": (nets.ViT, {**IMAGES, "img_size": 16, "patch_size": 8}, lambda: (noise(2, 1, 16, 16, 16),)),
    "vit_classification": (
        nets.ViT,
        {**IMAGES, "img_size": 16, "patch_size": 8, "classification": True, "pos_embed_type": "sincos"},
        lambda: (noise(2, 1, 16, 16, 16),),
    ),
    "autoencoder_vit": (
        nets.ViTAutoEnc,
        {**IMAGES, "img_size": (16, 32), "patch_size": 4, "spatial_dims": 2, "proj_type": "perceptron"},
        lambda: (noise(2, 1, 16, 32),),
    ),
    "masked_autoencoder": (
        nets.MaskedAutoEncoderViT,
        {**IMAGES, "img_size": 16, "patch_size": 8, "decoder_hidden_size": 24, "decoder_num_heads": 2},
        lambda: (noise(2, 1, 16, 16, 16),),
    ),
}


FLASHING = [
    (name, flash)
    for name, (make, _, _) in CASES.items()
    if "use_flash_attention" in inspect.signature(make).parameters
    for flash in (False, True)
]


@torch.no_grad()
def scramble(network: nn.Module) -> None:
    """Give every parameter a value that matters; many start at zero."""
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def outputs(network: nn.Module, inputs: tuple[object, ...]) -> list[torch.Tensor]:
    """Return all tensors that the network gives, with the same random numbers each time."""
    torch.manual_seed(5)
    with torch.no_grad():
        return flat(network.eval()(*inputs))


def flat(found: object) -> list[torch.Tensor]:
    return [found] if isinstance(found, torch.Tensor) else [tensor for part in found for tensor in flat(part)]


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize(
    ("name", "flash"), [*FLASHING, *((name, None) for name in CASES if (name, True) not in FLASHING)]
)
def test_network_of_our_blocks_gives_what_monais_gives(name, flash, monkeypatch):
    make, options, inputs = CASES[name]
    options = options if flash is None else {**options, "use_flash_attention": flash}
    theirs = make(**options)
    for place, names in PLACES.items():
        for block in names:
            monkeypatch.setattr(sys.modules[place], block, getattr(networks, block))
    ours = make(**options)
    scramble(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert any(isinstance(module, networks.SABlock) for module in ours.modules())
    assert not [module for module in ours.modules() if isinstance(module, tuple(BLOCKS.values()))]
    for found, wanted in zip(outputs(ours, inputs()), outputs(theirs, inputs()), strict=True):
        assert wanted.isfinite().all()
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_every_module_of_monai_that_builds_such_a_block_is_known():
    """A new network of MONAI's on these blocks gets a case above."""
    modules = {name: module for name, module in sys.modules.items() if name.startswith("monai.networks.")}
    del modules["monai.networks.blocks"]  # gathers them
    found = {
        (place, name)
        for place, module in modules.items()
        for name, block in BLOCKS.items()
        if getattr(module, name, None) is block and block.__module__ != place
    }
    assert found == {(place, name) for place, names in PLACES.items() for name in names}
