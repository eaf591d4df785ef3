"""What holds for every family: listed keys, layouts, the caller's dictionary, detection."""

from __future__ import annotations

import monai.networks.blocks as monai_blocks
import monai.networks.nets as monai_nets
import pytest
import torch
from torch import nn

from bundle.conversion import convert_checkpoint, detect_family
from bundle.errors import ConversionError
from networks import CrossAttentionBlock, SABlock, TransformerBlock, ViT, combine_qkv, separate_qkv
from tests.bundle.conversion.models import (
    HEADS,
    MLP,
    SIZES,
    WIDTH,
    GenerativeAttention,
    Wrapped,
    assert_same,
    make_3d,
    make_sa,
    make_timm,
    make_vit,
)


def test_missing_left_over_and_misshapen_keys_are_listed_at_once():
    network = TransformerBlock(WIDTH, MLP, HEADS)
    state = network.state_dict()
    del state["norm1.weight"], state["norm2.bias"]
    state |= {"extra.weight": torch.ones(1), "mlp.linear1.bias": torch.ones(7)}
    with pytest.raises(ConversionError) as caught:
        convert_checkpoint(state, "monai", "bundle", network)
    assert "missing: norm1.weight, norm2.bias; left over: extra.weight; " in str(caught.value)
    assert "misshapen: mlp.linear1.bias (7,) in place of (40,)" in str(caught.value)


@pytest.mark.parametrize("layout", [None, "combined", "separate"])
@pytest.mark.parametrize("network_combined", [None, True, False])
@pytest.mark.parametrize("source_combined", [True, False])
def test_layout_is_the_one_asked_for_or_the_networks_or_the_states(source_combined, network_combined, layout):
    state = SABlock(WIDTH, HEADS, use_combined_linear=source_combined).state_dict()
    network = None if network_combined is None else SABlock(WIDTH, HEADS, use_combined_linear=network_combined)
    combined = source_combined if network_combined is None else network_combined
    combined = combined if layout is None else layout == "combined"
    converted = convert_checkpoint(state, "bundle", "bundle", network, layout)
    assert_same(converted, combine_qkv(state) if combined else separate_qkv(state))


def test_a_layout_that_monais_network_does_not_have_is_an_error():
    network = monai_blocks.SABlock(WIDTH, HEADS)
    with pytest.raises(ConversionError, match=r"missing: qkv\.weight; left over: to_q\.weight, to_k"):
        convert_checkpoint(SABlock(WIDTH, HEADS).state_dict(), "bundle", "monai", network, "separate")


def test_cross_attention_of_another_width_passes_through():
    state = CrossAttentionBlock(WIDTH, HEADS, context_input_size=7).state_dict()
    for layout in (None, "combined", "separate"):
        assert_same(convert_checkpoint(state, "monai", "bundle", layout=layout), state)


@pytest.mark.parametrize("grid_size", [(), (4,), (0, 4), (-2, -16, 1), (1, 1, 4, 4)])
def test_a_grid_that_is_none_is_refused(grid_size):
    with pytest.raises(ConversionError, match="2 or 3 positive entries"):
        convert_checkpoint(make_timm(), "timm", "bundle", grid_size=grid_size)


@pytest.mark.parametrize("shape", [(17, WIDTH), (2, 17, WIDTH), (1, 0, WIDTH)])
def test_misshapen_positions_are_an_error(shape):
    with pytest.raises(ConversionError, match="pos_embed"):
        convert_checkpoint(make_timm() | {"pos_embed": torch.ones(shape)}, "timm", "bundle")
    key = "patch_embedding.position_embeddings"
    for network in (make_vit(), make_3d()):
        with pytest.raises(ConversionError, match=f"{key} has the shape"):
            convert_checkpoint(network.state_dict() | {key: torch.ones(shape)}, "bundle", "timm", grid_size=(1, 1, 17))


@pytest.mark.parametrize(
    ("source", "target", "layout", "message"),
    [
        ("keras", "bundle", None, "'keras'"),
        ("bundle", "keras", None, "'keras'"),
        ("bundle", "monai", "fused", "'fused'"),
        ("bundle", "timm", "separate", "combined layout only"),
        ("bundle", "generative", "combined", "separate layout only"),
    ],
)
def test_bad_arguments_are_refused(source, target, layout, message):
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint(SABlock(WIDTH, HEADS).state_dict(), source, target, layout=layout)


def test_what_is_no_tensor_and_what_is_no_triple_is_refused():
    state = SABlock(WIDTH, HEADS).state_dict()
    with pytest.raises(ConversionError, match="these are none: epoch"):
        convert_checkpoint(state | {"epoch": 3}, "monai", "bundle")
    with pytest.raises(ConversionError, match=r"to_q\.weight.*lack.*to_v\.weight"):
        convert_checkpoint({"to_q.weight": torch.ones(3, 3), "to_k.weight": torch.ones(3, 3)}, "monai", "bundle")


CASES = {
    "monai": (lambda: monai_nets.ViT(**SIZES, classification=True).state_dict(), "monai", "bundle", None),
    "to_monai": (
        lambda: ViT(**SIZES, global_pool="token", use_combined_linear=False).state_dict(),
        "bundle",
        "monai",
        lambda: monai_nets.ViT(**SIZES, classification=True),
    ),
    "generative": (lambda: GenerativeAttention().state_dict(), "generative", "bundle", None),
    "to_generative": (lambda: SABlock(WIDTH, HEADS).state_dict(), "bundle", "generative", None),
    "timm": (lambda: make_timm("map"), "timm", "bundle", lambda: make_3d(pool="map", class_token=True)),
    "to_timm": (lambda: make_vit("map").state_dict(), "bundle", "timm", None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_callers_dictionary_is_not_changed(name):
    make, source, target, network = CASES[name]
    state = make()
    before = {key: value.clone() for key, value in state.items()}
    converted = convert_checkpoint(state, source, target, network and network())
    assert converted.keys() != before.keys()
    assert_same(dict(state), before)


DETECTED = {
    "bundle": [
        lambda: ViT(**SIZES, global_pool="token").state_dict(),
        lambda: SABlock(WIDTH, HEADS, include_fc=False).state_dict(),
        lambda: TransformerBlock(WIDTH, MLP, HEADS, with_cross_attention=True).state_dict(),
        lambda: make_vit("map", use_combined_linear=False).state_dict(),
    ],
    "monai": [
        lambda: monai_nets.ViT(**SIZES).state_dict(),
        lambda: monai_nets.ViT(**SIZES, classification=True).state_dict(),
        lambda: make_sa(monai_blocks, False).state_dict(),
        lambda: monai_blocks.TransformerBlock(WIDTH, MLP, HEADS).state_dict(),
        lambda: (
            ViT(**SIZES, num_classes=0, global_pool="").state_dict()
            | {f"blocks.0.cross_attn.to_{part}.weight": torch.ones(3, 3) for part in "qkv"}
        ),
    ],
    "generative": [lambda: Wrapped(GenerativeAttention()).state_dict()],
    "timm": [lambda: make_timm("map"), lambda: make_timm("avg", class_token=False)],
}


@pytest.mark.parametrize(("family", "make"), [(family, make) for family, all_ in DETECTED.items() for make in all_])
def test_family_is_told_from_the_keys(family, make):
    assert detect_family(make()) == family


def test_keys_of_no_family_or_of_two_are_an_error():
    with pytest.raises(ConversionError, match="no attention found"):
        detect_family(nn.Linear(2, 2).state_dict())
    mixed = make_timm() | {"blocks.0.attn.out_proj.weight": torch.ones(1)}
    with pytest.raises(ConversionError, match=r"timm \(.*bundle \(blocks\.0\.attn\.out_proj\.weight\)"):
        detect_family(mixed)
    with pytest.raises(ConversionError, match=r"generative \(proj_attn\.weight\).*monai \(attn\.causal_mask\)"):
        detect_family(GenerativeAttention().state_dict() | {"attn.causal_mask": torch.ones(1)})
    with pytest.raises(ConversionError, match=r"monai \(blocks\.0\.norm_cross_attn\.weight\), bundle \(head\.linear"):
        detect_family(
            ViT(**SIZES, global_pool="token").state_dict() | {"blocks.0.norm_cross_attn.weight": torch.ones(1)}
        )
