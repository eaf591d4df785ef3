"""GenerativeModels' networks that MONAI has no reader of its own for: SPADE ones, and the VQ-VAE.

``generative_others.json`` holds names and shapes of version 0.2.3's state dicts, and what its networks gave, in
float64, for the weights and inputs below.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.networks.nets import VQVAE, SPADEAutoencoderKL, SPADEDiffusionModelUNet

from bundle.conversion import convert_checkpoint, detect_family
from bundle.errors import ConversionError
from tests.bundle.conversion.models import assert_same

CASES = json.loads(Path(__file__).with_name("generative_others.json").read_text())
SPADE = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "num_res_blocks": 1, "label_nc": 3}
SPADE |= {"attention_levels": (False, True), "norm_num_groups": 4, "spade_intermediate_channels": 8}
CONDITIONED = {"with_conditioning": True, "cross_attention_dim": 5, "transformer_num_layers": 1}
VQ = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "num_res_layers": 1, "num_res_channels": (8, 8)}
VQ |= {"downsample_parameters": ((2, 4, 1, 1),) * 2, "upsample_parameters": ((2, 4, 1, 1, 0),) * 2}
MONAI = {
    "spade_autoencoder": lambda: SPADEAutoencoderKL(**SPADE, channels=(8, 8), latent_channels=3, include_fc=False),
    "spade_diffusion": lambda: SPADEDiffusionModelUNet(**SPADE, channels=(8, 8), num_head_channels=4, include_fc=False),
    "conditioned_spade_diffusion": lambda: SPADEDiffusionModelUNet(
        **SPADE, channels=(8, 8), num_head_channels=4, **CONDITIONED
    ),
    "vqvae": lambda: VQVAE(**VQ, channels=(8, 8), num_embeddings=16, embedding_dim=4),
}


def fill(name: str, shape: list[int]) -> torch.Tensor:
    """Return weights that follow from name and shape alone."""
    values = torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + sum(map(ord, name))
    return (values.sin() * 0.3 + 0.05).reshape(shape)


@torch.no_grad()
def answer(network, name: str) -> torch.Tensor:
    """Return what a network gives for inputs that follow from nothing."""
    image = torch.linspace(-1, 1, 256, dtype=torch.float64).mul(9).sin().reshape(1, 1, 16, 16)
    regions = torch.nn.functional.one_hot(torch.arange(256).reshape(1, 16, 16) // 90, 3).movedim(-1, 1).double()
    time, context = torch.tensor([3]), torch.linspace(0, 1, 10, dtype=torch.float64).reshape(1, 2, 5)
    if name == "vqvae":
        return network.float()(image.float())[0].double()  # it finds the next code in float32
    if name == "spade_autoencoder":
        return network.reconstruct(image, regions)
    return network(image, time, regions, *([context] if name.startswith("conditioned") else []))


@torch.no_grad()
def without_projections(network) -> None:
    """Let the output projections that MONAI's up blocks keep whatever ``include_fc`` says change nothing."""
    for name, parameter in network.named_parameters():
        if name.startswith("up_blocks") and ".attn.out_proj." in name:
            parameter.copy_(torch.eye(len(parameter)) if name.endswith("weight") else torch.zeros(len(parameter)))


def set_eps(network, eps: float) -> None:
    for name, module in network.named_modules():
        if name.endswith("param_free_norm"):
            module.eps = eps


@pytest.fixture(params=CASES)
def case(request):
    return request.param, {key: fill(key, shape) for key, shape in CASES[request.param]["shapes"].items()}


def test_outputs_are_those_of_generative_models_and_the_way_back_is_exact(case):
    name, state = case
    network, notes = MONAI[name]().double().eval(), []
    converted = convert_checkpoint(state, "generative", "monai", network, notes=notes)
    network.load_state_dict(converted, strict=True)
    if name == "spade_autoencoder":
        assert any(
            "need eps = 1e-5, in MONAI 1e-6, in decoder.blocks.1.norm1.param_free_norm" in note for note in notes
        )
        set_eps(network, 1e-5)
    if name == "spade_diffusion":
        assert any("kept up_blocks.0.attentions.0.attn.out_proj.weight" in note for note in notes)
        without_projections(network)
    wanted = torch.tensor(CASES[name]["output"], dtype=torch.float64)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(answer(network, name).flatten()[:64], wanted, atol=1e-5, rtol=1e-5)
    back = convert_checkpoint(converted, "monai", "generative")
    dropped = {key for key in state if ".proj_attn." in key}  # which GenerativeModels never applies
    assert back.keys() == state.keys()
    assert_same(*({key: value for key, value in part.items() if key not in dropped} for part in (back, state)))


def test_family_is_told_where_there_is_attention(case):
    name, state = case
    if name == "vqvae":
        with pytest.raises(ConversionError, match="no attention found"):
            detect_family(state)
    else:
        assert detect_family(state) == "generative"
