"""The two QKV layouts of a state dict: exact both ways, strict about what it is given."""

from __future__ import annotations

import pytest
import torch

from networks import CrossAttentionBlock, SABlock, SpatialAttention, combine_qkv, separate_qkv
from networks.qkv_layout import qkv_layouts, to_layout


def make_state(separate, bias=True, prefix="attn.", inner=6, tail=(5,)):
    """Return random projections of one block, plain tensors."""
    names = ("to_q", "to_k", "to_v") if separate else ("qkv",)
    rows = inner if separate else 3 * inner
    state = {f"{prefix}{name}.weight": torch.randn(rows, *tail) for name in names}
    if bias:
        state |= {f"{prefix}{name}.bias": torch.randn(rows) for name in names}
    return state | {f"{prefix}out_proj.weight": torch.randn(tail[0], inner)}


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


@pytest.mark.parametrize("tail", [(5,), (5, 1, 1), (5, 1, 1, 1)], ids=["linear", "conv2d", "conv3d"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("prefix", ["", "blocks.3.attn."])
def test_there_and_back_is_exact(tail, bias, prefix):
    separate = make_state(True, bias, prefix, tail=tail)
    combined = combine_qkv(separate)
    assert set(combined) == set(make_state(False, bias, prefix, tail=tail))
    assert torch.equal(combined[f"{prefix}qkv.weight"][6:12], separate[f"{prefix}to_k.weight"])
    assert_same(separate_qkv(combined), separate)


@pytest.mark.parametrize(
    "make",
    [
        lambda c: SABlock(12, 3, qkv_bias=True, use_combined_linear=c),
        lambda c: SpatialAttention(12, 3, use_combined_linear=c),
    ],
)
def test_converted_state_is_that_of_the_other_form(make):
    torch.manual_seed(0)
    fused = make(True)
    torch.manual_seed(0)
    separate = make(False)
    assert_same(separate_qkv(fused.state_dict()), separate.state_dict())
    assert_same(combine_qkv(separate.state_dict()), fused.state_dict())


def test_each_block_counts_by_itself_and_a_converted_one_is_left_alone():
    state = make_state(True, prefix="a.") | make_state(False, prefix="b.", bias=False)
    assert qkv_layouts(state) == {"a.": False, "b.": True}
    assert qkv_layouts(combine_qkv(state)) == {"a.": True, "b.": True}
    assert qkv_layouts(separate_qkv(state)) == {"a.": False, "b.": False}
    assert_same(combine_qkv(combine_qkv(state)), combine_qkv(state))


@pytest.mark.parametrize("convert", [combine_qkv, separate_qkv])
@pytest.mark.parametrize("separate", [True, False])
def test_the_callers_dictionary_is_not_changed(convert, separate):
    state = make_state(separate)
    before = {key: value.clone() for key, value in state.items()}
    convert(state)
    assert_same(state, before)


def test_cross_attention_with_another_context_width_is_left_as_it_is():
    block = CrossAttentionBlock(12, 3, context_input_size=7, qkv_bias=True)
    assert_same(combine_qkv(block.state_dict()), block.state_dict())
    assert set(combine_qkv(CrossAttentionBlock(12, 3).state_dict())) == {
        "qkv.weight",
        "out_proj.weight",
        "out_proj.bias",
    }


def without(state, *keys):
    return {key: value for key, value in state.items() if key not in keys}


FAULTS = {
    "no_value": (
        without(make_state(True), "attn.to_v.weight", "attn.to_v.bias"),
        ["attn.to_q.weight", "attn.to_v.weight"],
    ),
    "no_query": (without(make_state(True, bias=False), "attn.to_q.weight"), ["attn.to_k.weight", "attn.to_q.weight"]),
    "bias_on_some": (without(make_state(True), "attn.to_k.bias"), ["attn.to_q.bias", "attn.to_k.bias"]),
    "bias_alone": (without(make_state(False), "attn.qkv.weight"), ["attn.qkv.bias", "attn.qkv.weight"]),
    "both_layouts": (make_state(True) | make_state(False), ["attn.qkv.weight", "attn.to_q.weight", "are both layouts"]),
    "both_in_part": (
        make_state(False) | {"attn.to_k.weight": torch.ones(6, 5)},
        ["attn.qkv.weight", "attn.to_k.weight", "are both layouts"],
    ),
    "no_thirds": (make_state(False, bias=False) | {"attn.qkv.weight": torch.ones(16, 5)}, ["attn.qkv.weight (16, 5)"]),
    "rows_differ": (make_state(True, bias=False) | {"attn.to_v.weight": torch.ones(4, 5)}, ["attn.to_v.weight (4, 5)"]),
    "bias_rows": (make_state(False) | {"attn.qkv.bias": torch.ones(15)}, ["attn.qkv.bias (15,)"]),
    "scalar": (make_state(False, bias=False) | {"attn.qkv.weight": torch.ones(())}, ["attn.qkv.weight ()"]),
}


@pytest.mark.parametrize("convert", [combine_qkv, separate_qkv])
@pytest.mark.parametrize("name", FAULTS)
def test_faulty_projections_are_an_error_that_lists_the_keys(convert, name):
    state, keys = FAULTS[name]
    with pytest.raises(ValueError, match="query, key and value") as caught:
        convert(state)
    for key in keys:
        assert key in str(caught.value)


def test_all_faulty_blocks_are_listed():
    state = without(make_state(True, prefix="a.") | make_state(True, prefix="b."), "a.to_v.bias", "b.to_q.weight")
    with pytest.raises(ValueError, match=r"a\.to_v\.bias.*b\.to_q\.weight"):
        combine_qkv(state)


def test_the_load_hook_leaves_the_incomplete_to_load_state_dict():
    state = without(make_state(True), "attn.to_v.weight")
    before = set(state)
    to_layout(state, "attn.", combined=True)
    assert {"attn.to_q.weight", "attn.to_k.weight"} <= before & set(state)


def test_cross_attention_of_another_width_does_not_load_into_one_linear():
    other = CrossAttentionBlock(12, 3, context_input_size=7).state_dict()
    with pytest.raises(RuntimeError, match=r"qkv\.weight"):
        CrossAttentionBlock(12, 3, use_combined_linear=True).load_state_dict(other)


def test_names_that_only_end_alike_are_no_projections():
    state = {"xto_q.weight": torch.ones(3, 3), "not_qkv.weight": torch.ones(4, 3)}
    assert_same(combine_qkv(state), state)
    assert_same(separate_qkv(state), state)
