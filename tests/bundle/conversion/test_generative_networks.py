"""GenerativeModels' whole networks to MONAI's, to MONAI's with this bundle's blocks, and back.

``generative_shapes.json`` holds the names and shapes of GenerativeModels 0.2.3's state dicts. What its networks compute
is what MONAI makes of them by ``load_old_state_dict``, but for the projection that GenerativeModels never applies, and
for the ``norm2`` of a cross-attention, which that method loses because MONAI has another ``norm2``.
"""

from __future__ import annotations

import json
from pathlib import Path

import monai.networks.blocks.spatialattention as spatial_module
import monai.networks.nets.diffusion_model_unet as diffusion_module
import monai.networks.nets.transformer as decoder_module
import pytest
import torch
from monai.networks.blocks import TransformerBlock as MonaiBlock
from monai.networks.nets import AutoencoderKL, ControlNet, DecoderOnlyTransformer, DiffusionModelUNet

from bundle.conversion import convert_checkpoint, detect_family, undecided_keys
from bundle.errors import ConversionError
from networks import CrossAttentionBlock, SABlock, TransformerBlock
from tests.bundle.conversion.models import assert_same

SHAPES = json.loads(Path(__file__).with_name("generative_shapes.json").read_text())
AUTOENCODER = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "latent_channels": 3, "channels": (8, 8)}
AUTOENCODER |= {"norm_num_groups": 4, "num_res_blocks": (1, 1), "attention_levels": (False, True)}
UNET = {"spatial_dims": 2, "in_channels": 1, "channels": (8, 8), "num_res_blocks": 1, "num_head_channels": 4}
UNET |= {"attention_levels": (False, True), "norm_num_groups": 4}
CONDITIONED = UNET | {"with_conditioning": True, "cross_attention_dim": 5, "transformer_num_layers": 1}
CAUSAL = {"causal": True, "sequence_length": 9, "with_cross_attention": True}
MONAI = {
    "block": lambda **options: MonaiBlock(8, 16, 2, qkv_bias=True, **options),
    "cross_block": lambda **options: MonaiBlock(8, 16, 2, **CAUSAL, **options),
    "decoder": lambda **options: decoder_module.DecoderOnlyTransformer(5, 7, 8, 2, 2, **options),
    "cross_decoder": lambda **options: decoder_module.DecoderOnlyTransformer(5, 7, 8, 2, 2, True, **options),
    "autoencoder": lambda **options: AutoencoderKL(**AUTOENCODER, **options),
    "diffusion": lambda **options: DiffusionModelUNet(out_channels=1, **UNET, **options),
    "resblock_diffusion": lambda **options: DiffusionModelUNet(out_channels=1, resblock_updown=True, **UNET, **options),
    "conditioned_diffusion": lambda **options: DiffusionModelUNet(out_channels=1, **CONDITIONED, **options),
    "controlnet": lambda **options: ControlNet(conditioning_embedding_num_channels=(4,), **CONDITIONED, **options),
}
OURS = MONAI | {
    "block": lambda: TransformerBlock(8, 16, 2, qkv_bias=True),
    "cross_block": lambda: TransformerBlock(8, 16, 2, **CAUSAL),
}
PROJECTED = ("autoencoder", "diffusion", "resblock_diffusion")


def draw(name):
    """Return random weights by GenerativeModels' names; masks are what they are there."""
    state = {key: torch.randn(shape) * 0.3 + 0.05 for key, shape in SHAPES[name].items()}
    return {key: torch.ones_like(value).tril() if "causal_mask" in key else value for key, value in state.items()}


@torch.no_grad()
def outputs(network):
    """Return what a network computes of inputs that are the same for all of its kind."""
    draws = torch.Generator().manual_seed(3)
    image, context = torch.randn(1, 1, 16, 16, generator=draws), torch.randn(1, 3, 5, generator=draws)
    tokens, memory = torch.randn(2, 7, 8, generator=draws), torch.randn(2, 4, 8, generator=draws)
    network = network.eval()
    if isinstance(network, AutoencoderKL):
        return network.reconstruct(image)
    if isinstance(network, ControlNet):
        return network(image, torch.tensor([3]), image, context=context)[1]
    if isinstance(network, DiffusionModelUNet):
        return network(image, torch.tensor([3]), context=context if network.with_conditioning else None)
    if isinstance(network, DecoderOnlyTransformer):
        codes = torch.randint(0, 5, (2, 6), generator=draws)
        return network(codes, context=memory if network.with_cross_attention else None)
    return network(tokens, context=memory if network.with_cross_attention else None)


def reference(name, state):
    """Return MONAI's network with the weights, as MONAI itself reads them, or renamed by hand where it does not."""
    network = MONAI[name]()
    if name in ("autoencoder", "diffusion", "resblock_diffusion", "conditioned_diffusion", "controlnet"):
        network.load_old_state_dict(dict(state))
        return network
    if "block" in name:
        network = MONAI[name](use_combined_linear=False)
    norms = {"norm2": "norm_cross_attn", "norm3": "norm2"}
    names = {key: ".".join(norms.get(part, part) for part in key.split(".")) for key in state}
    left = network.load_state_dict({names[key]: value for key, value in state.items()}, strict=False)
    assert not left.unexpected_keys
    assert all("norm_cross_attn" in key for key in left.missing_keys)
    return network


def build_ours(name):
    """Return MONAI's network built of this bundle's blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_module, "TransformerBlock", TransformerBlock)
        patch.setattr(diffusion_module, "SABlock", SABlock)
        patch.setattr(diffusion_module, "CrossAttentionBlock", CrossAttentionBlock)
        patch.setattr(spatial_module, "SABlock", SABlock)
        return OURS[name]()


@pytest.mark.parametrize("name", MONAI)
def test_generative_network_is_monais_and_goes_back(name):
    state = draw(name)
    assert detect_family(state) == "generative"
    network = MONAI[name]()
    converted = convert_checkpoint(state, "generative", "monai", network)
    network.load_state_dict(converted, strict=True)
    expected = outputs(reference(name, state))
    assert expected.std() > 1e-3
    torch.testing.assert_close(outputs(network), expected, atol=1e-5, rtol=1e-5)
    assert_same(convert_checkpoint(converted, "monai", "generative"), state)


@pytest.mark.parametrize("name", MONAI)
def test_generative_network_is_ours_and_goes_back(name):
    state = draw(name)
    network = build_ours(name)
    assert any(isinstance(module, SABlock) for module in network.modules())
    converted = convert_checkpoint(state, "generative", "bundle", network)
    assert converted.keys() == network.state_dict().keys()
    network.load_state_dict(converted, strict=True)
    torch.testing.assert_close(outputs(network), outputs(reference(name, state)), atol=1e-5, rtol=1e-5)
    back = convert_checkpoint(converted, "bundle", "generative")
    if name == "cross_block":  # nothing in a block alone tells the length of its mask
        state.pop("attn.causal_mask")
    assert_same(back, state)


@pytest.mark.parametrize("name", MONAI)
def test_without_a_network_the_names_are_those_of_monais_default(name):
    converted = convert_checkpoint(draw(name), "generative", "monai")
    separate = {"use_combined_linear": False} if "block" in name and "resblock" not in name else {}
    network = MONAI[name](**separate)
    network.load_state_dict(converted, strict=True)


@pytest.mark.parametrize("name", PROJECTED)
def test_projection_that_generative_never_applies_is_dropped_where_the_network_has_none(name):
    state, notes = draw(name), []
    network = MONAI[name](include_fc=False)
    converted = convert_checkpoint(state, "generative", "monai", network, notes=notes)
    network.load_state_dict(converted, strict=True)
    assert any("proj_attn.weight" in note and "did not apply" in note for note in notes)
    # An identity in its place is no projection either.
    plain = {key: value for key, value in state.items() if "proj_attn" not in key}
    filled = MONAI[name]()
    filled.load_state_dict(convert_checkpoint(plain, "generative", "monai", filled), strict=True)
    torch.testing.assert_close(outputs(network), outputs(filled), atol=1e-5, rtol=1e-5)
    applied = convert_checkpoint(state, "generative", "monai", MONAI[name](), notes=(told := []))
    assert any(key.endswith("out_proj.weight") for key in applied)
    assert any("include_fc=False" in note for note in told)
    back = convert_checkpoint(converted, "monai", "generative")
    assert {key: list(value.shape) for key, value in back.items()} == SHAPES[name]


def test_transposed_upsampling_is_refused_both_ways_with_its_keys():
    network = AutoencoderKL(**AUTOENCODER, use_convtranspose=True)
    with pytest.raises(ConversionError, match=r"missing: decoder\.blocks\.6\.deconv\.weight.*left over: .*postconv"):
        convert_checkpoint(draw("transposed_autoencoder"), "generative", "monai", network)
    with pytest.raises(ConversionError, match=r"another kernel for decoder\.blocks\.6\.deconv\.weight"):
        convert_checkpoint(network.state_dict(), "monai", "generative")


@pytest.mark.parametrize("name", MONAI)
def test_a_key_too_many_or_too_few_is_listed(name):
    state = draw(name)
    gone = next(key for key in reversed(state) if key.endswith(".weight") and "norm2" not in key)
    del state[gone]
    state["surplus.weight"] = torch.ones(3)
    with pytest.raises(ConversionError, match=r"missing: .*left over: surplus\.weight"):
        convert_checkpoint(state, "generative", "monai", MONAI[name]())


def test_norm_of_a_cross_attention_that_is_missing_is_listed():
    state = {key: value for key, value in draw("cross_decoder").items() if "blocks.1.cross_attn" not in key}
    with pytest.raises(ConversionError, match=r"norm2 without cross_attn.*blocks\.1\.norm2\.weight"):
        convert_checkpoint(state, "generative", "monai")


def test_layers_that_generative_lacks_are_listed():
    block = TransformerBlock(8, 16, 2, qk_norm=True)
    with pytest.raises(ConversionError, match=r"no such layers: attn\.q_norm\.weight"):
        convert_checkpoint(block.state_dict(), "bundle", "generative")


def test_conditioned_network_in_the_combined_layout_keeps_its_cross_attention_separate():
    network = DiffusionModelUNet(out_channels=1, use_combined_linear=True, **CONDITIONED | {"cross_attention_dim": 8})
    state = draw("conditioned_diffusion")
    state |= {key: torch.randn(8, 8) for key in state if key.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))}
    for given in (network, None):
        converted = convert_checkpoint(state, "generative", "monai", given, "combined")
        network.load_state_dict(converted, strict=True)


def test_what_only_a_network_tells_is_named():
    assert "decoder.blocks.6.conv.conv.weight" in undecided_keys(draw("autoencoder"), "generative")
    assert undecided_keys(SABlock(8, 2).state_dict(), "bundle") == ["out_proj.weight", "out_proj.bias"]
    for name in MONAI:
        assert undecided_keys(draw(name), "generative")
        assert not undecided_keys(convert_checkpoint(draw(name), "generative", "monai"), "monai")
