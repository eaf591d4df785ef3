"""MONAI's checkpoints, there and back."""

from __future__ import annotations

import monai.networks.blocks as monai_blocks
import monai.networks.nets as monai_nets
import pytest
import torch
from torch import nn

from bundle.conversion import convert_checkpoint, detect_family
from bundle.errors import ConversionError
from networks import UNETR, SABlock, TransformerBlock, ViT
from tests.bundle.conversion.models import (
    HEADS,
    MLP,
    SIZES,
    WIDTH,
    assert_equal_outputs,
    assert_same,
    is_unused,
    load,
    make_sa,
    randomise,
)


def make_relative(package, combined):
    options = {"rel_pos_embedding": "decomposed", "input_size": (3, 4), "use_combined_linear": combined}
    return package.SABlock(WIDTH, HEADS, **options)


def make_block(package, combined):
    return package.TransformerBlock(
        WIDTH, MLP, HEADS, qkv_bias=True, causal=True, sequence_length=11, use_combined_linear=combined
    )


class Ours:
    SABlock, TransformerBlock = SABlock, TransformerBlock


BLOCKS = {"sa": (make_sa, 11), "relative": (make_relative, 12), "transformer": (make_block, 11)}


@pytest.mark.parametrize("target_combined", [True, False])
@pytest.mark.parametrize("source_combined", [True, False])
@pytest.mark.parametrize("name", BLOCKS)
def test_monai_block_there_and_back(name, source_combined, target_combined):
    make, tokens = BLOCKS[name]
    theirs = randomise(make(monai_blocks, source_combined))
    ours = make(Ours, target_combined)
    state = theirs.state_dict()
    converted = convert_checkpoint(state, "monai", "bundle", ours)
    assert_equal_outputs(theirs, load(ours, converted), torch.randn(2, tokens, WIDTH))
    again = make(monai_blocks, source_combined)
    back = convert_checkpoint(ours.state_dict(), "bundle", "monai", again)
    load(again, back)
    assert_same(
        {k: v for k, v in back.items() if "norm_cross" not in k},
        {k: v for k, v in state.items() if "norm_cross" not in k},
    )
    assert_equal_outputs(theirs, again, torch.randn(2, tokens, WIDTH))


def test_what_monai_does_not_use_is_filled_with_its_defaults():
    ours, theirs = make_block(Ours, True), randomise(make_block(monai_blocks, True))
    notes = []
    back = convert_checkpoint(ours.state_dict(), "bundle", "monai", theirs, notes=notes)
    fresh = make_block(monai_blocks, True).state_dict()
    for key in fresh:
        if is_unused(key):
            assert torch.equal(back[key], fresh[key]), key
    assert len(notes) == 1
    assert "attn.causal_mask" in notes[0]


def test_cross_attention_that_is_used_is_kept_and_separate_for_monai():
    theirs = randomise(monai_blocks.TransformerBlock(WIDTH, MLP, HEADS, with_cross_attention=True))
    ours = TransformerBlock(WIDTH, MLP, HEADS, with_cross_attention=True)
    converted = convert_checkpoint(theirs.state_dict(), "monai", "bundle", ours)
    assert "cross_attn.qkv.weight" in converted
    assert_equal_outputs(theirs, load(ours, converted), torch.randn(2, 5, WIDTH), torch.randn(2, 7, WIDTH))
    for network, layout in ((theirs, None), (None, None), (None, "combined")):
        assert_same(convert_checkpoint(converted, "bundle", "monai", network, layout), theirs.state_dict())


def test_cross_attention_without_a_network_follows_its_keys():
    with_it = monai_blocks.TransformerBlock(WIDTH, MLP, HEADS, with_cross_attention=True).state_dict()
    assert convert_checkpoint(with_it, "monai", "bundle").keys() == with_it.keys()
    without = monai_blocks.TransformerBlock(WIDTH, MLP, HEADS).state_dict()
    notes = []
    dropped = without.keys() - convert_checkpoint(without, "monai", "bundle", notes=notes).keys()
    assert dropped == {"norm_cross_attn.weight", "norm_cross_attn.bias"}
    assert notes == ["dropped norm_cross_attn.weight, norm_cross_attn.bias"]


def test_cross_attention_of_older_monai_is_dropped_for_a_network_without_it():
    old = monai_blocks.TransformerBlock(WIDTH, MLP, HEADS, with_cross_attention=True).state_dict()
    ours = TransformerBlock(WIDTH, MLP, HEADS)
    load(ours, convert_checkpoint(old, "monai", "bundle", ours))


VITS = {
    "tokens": ({"classification": False, "qkv_bias": True}, {"num_classes": 0, "global_pool": ""}),
    "tanh": ({"classification": True, "num_classes": 5}, {"num_classes": 5, "classification": True}),
    "linear": (
        {"classification": True, "num_classes": 5, "post_activation": None},
        {"num_classes": 5, "global_pool": "token"},
    ),
    "no_positions": ({"pos_embed_type": "none"}, {"num_classes": 0, "global_pool": "", "pos_embed_type": "none"}),
    "perceptron": ({"proj_type": "perceptron"}, {"num_classes": 0, "global_pool": "", "proj_type": "perceptron"}),
}


@pytest.mark.parametrize("combined", [True, False])
@pytest.mark.parametrize("name", VITS)
def test_monai_vit_there_and_back(name, combined):
    theirs_options, ours_options = VITS[name]
    theirs = randomise(monai_nets.ViT(**SIZES, **theirs_options))
    if name == "no_positions":
        nn.init.zeros_(theirs.patch_embedding.position_embeddings)
    bias = {"qkv_bias": theirs_options.get("qkv_bias", False)}
    ours = ViT(**SIZES, **ours_options, **bias, use_combined_linear=combined)
    state = theirs.state_dict()
    load(ours, convert_checkpoint(state, "monai", "bundle", ours))
    assert_equal_outputs(theirs, ours, torch.randn(2, 1, 16, 16, 16))
    again = monai_nets.ViT(**SIZES, **theirs_options)
    back = convert_checkpoint(ours.state_dict(), "bundle", "monai", again)
    load(again, back)
    assert_same(
        {k: v for k, v in back.items() if not is_unused(k)}, {k: v for k, v in state.items() if not is_unused(k)}
    )
    assert_equal_outputs(theirs, again, torch.randn(2, 1, 16, 16, 16))


def test_positions_are_not_dropped_when_they_are_not_zero():
    theirs = monai_nets.ViT(**SIZES)
    ours = ViT(**SIZES, num_classes=0, global_pool="", pos_embed_type="none")
    with pytest.raises(ConversionError, match=r"left over: patch_embedding\.position_embeddings$"):
        convert_checkpoint(theirs.state_dict(), "monai", "bundle", ours)


def test_monai_unetr_there_and_back():
    options = {"in_channels": 1, "out_channels": 2, "img_size": 32, "feature_size": 4, "hidden_size": WIDTH}
    options |= {"mlp_dim": MLP, "num_heads": HEADS, "qkv_bias": True}
    theirs, ours = monai_nets.UNETR(**options).eval(), UNETR(**options, use_combined_linear=False)
    state = theirs.state_dict()
    assert detect_family(state) == "monai"
    load(ours, convert_checkpoint(state, "monai", "bundle", ours))
    assert_equal_outputs(theirs, ours, torch.randn(1, 1, 32, 32, 32))
    again = monai_nets.UNETR(**options).eval()
    back = convert_checkpoint(ours.state_dict(), "bundle", "monai", again)
    assert_same({k: back[k] for k in state}, state)  # its unused norms are at their defaults
    load(again, back)
    assert_equal_outputs(theirs, again, torch.randn(1, 1, 32, 32, 32))


def test_without_a_network_the_head_is_that_of_monais_default():
    ours = ViT(**SIZES, global_pool="token", num_classes=5)
    back = convert_checkpoint(ours.state_dict(), "bundle", "monai")
    theirs = monai_nets.ViT(**SIZES, classification=True, num_classes=5)
    missing = theirs.load_state_dict(back, strict=False)
    assert missing.unexpected_keys == []
    assert all("norm_cross_attn" in key for key in missing.missing_keys)


def test_layers_that_monai_lacks_are_listed():
    ours = ViT(**SIZES, global_pool="avg", qk_norm=True)
    with pytest.raises(ConversionError, match=r"no such layers.*attn\.q_norm\.weight.*head\.norm\.bias"):
        convert_checkpoint(ours.state_dict(), "bundle", "monai")


def test_two_heads_are_an_error():
    state = monai_nets.ViT(**SIZES, classification=True).state_dict()
    for other in ("classification_head.weight", "head.linear.weight"):
        with pytest.raises(ConversionError, match=r"would become head\.linear\.weight"):
            convert_checkpoint(state | {other: state["classification_head.0.weight"]}, "monai", "bundle")
