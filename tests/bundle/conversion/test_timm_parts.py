"""timm's attention on its own, and the two orders of its ``qkv`` rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bundle.conversion import convert_checkpoint, detect_family
from bundle.errors import ConversionError
from networks import SABlock, SpatialAttention, TransformerBlock
from tests.bundle.conversion.models import MLP, WIDTH, assert_same, load

HEADS = 4  # not 3, the number of parts
DEPTH = WIDTH // HEADS


def draw(shapes):
    return {key: torch.randn(shape) * 0.3 for key, shape in shapes.items()}


def draw_attention(kernel=(1, 1)):
    """Return random weights with the names of timm's ``Attention2d``, or ``Attention`` without a kernel."""
    shapes = {"qkv.weight": (3 * WIDTH, WIDTH, *kernel), "qkv.bias": (3 * WIDTH,)}
    return draw(shapes | {"proj.weight": (WIDTH, WIDTH, *kernel), "proj.bias": (WIDTH,)})


def attend_in_float64(state, tokens, head_first):
    """Attend head by head, each with its rows of ``qkv`` as timm's two orders have them; tokens (N, C)."""
    weights = {key: value.double().flatten(1) if value.dim() > 1 else value.double() for key, value in state.items()}
    rows = tokens.double() @ weights["qkv.weight"].T + weights["qkv.bias"]
    parts = []
    for head in range(HEADS):
        if head_first:
            starts = [(3 * head + part) * DEPTH for part in range(3)]
        else:
            starts = [part * WIDTH + head * DEPTH for part in range(3)]
        q, k, v = (rows[:, start : start + DEPTH] for start in starts)
        parts.append(F.softmax(q @ k.T / DEPTH**0.5, dim=1) @ v)
    return torch.cat(parts, 1) @ weights["proj.weight"].T + weights["proj.bias"]


@torch.no_grad()
def assert_attends_alike(ours, state, head_first):
    grid = (1,) * (ours.spatial_dims - 2) + (4, 5)
    image = torch.randn(1, WIDTH, *grid)
    expected = attend_in_float64(state, image[0].flatten(1).T, head_first)
    torch.testing.assert_close(ours.eval()(image)[0].flatten(1).T.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("combined", [True, False])
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("head_first", [True, False])
def test_attention2d_of_either_order_attends_alike_here_and_goes_back(head_first, spatial_dims, combined):
    state = draw_attention()
    assert detect_family(state) == "timm"
    ours = SpatialAttention(WIDTH, HEADS, spatial_dims, use_combined_linear=combined)
    converted = convert_checkpoint(state, "timm", "bundle", ours, head_first=head_first)
    load(ours, converted)
    assert_attends_alike(ours, state, head_first)
    back = convert_checkpoint(converted, "bundle", "timm", head_first=head_first, num_heads=HEADS)
    assert_same(back, state)


def test_the_wrong_order_loads_and_attends_otherwise():
    state = draw_attention()
    ours = load(SpatialAttention(WIDTH, HEADS, 2), convert_checkpoint(state, "timm", "bundle"))
    with pytest.raises(AssertionError, match="not close"):
        assert_attends_alike(ours, state, head_first=True)


def test_without_a_network_the_number_of_heads_is_wanted_and_must_fit():
    state, network = draw_attention(), SpatialAttention(WIDTH, HEADS, 2)
    for heads, message in ((None, "head_first needs it"), (7, r"qkv\.weight \(72, 24, 1, 1\)"), (0, "found 0")):
        with pytest.raises(ConversionError, match=f"num_heads.*{message}") as caught:
            convert_checkpoint(state, "timm", "bundle", head_first=True, num_heads=heads)
        assert caught.value.code == "option"
    notes = []
    given = convert_checkpoint(state, "timm", "bundle", head_first=True, num_heads=HEADS, notes=notes)
    assert_same(given, convert_checkpoint(state, "timm", "bundle", network, head_first=True))
    assert notes == ["reordered the rows of qkv.weight, qkv.bias"]


@pytest.mark.parametrize(("source", "target"), [("monai", "bundle"), ("timm", "timm"), ("bundle", "generative")])
def test_an_order_of_heads_is_refused_where_there_is_none(source, target):
    with pytest.raises(ConversionError, match=f"head_first: from {source} to {target}"):
        convert_checkpoint(SABlock(WIDTH, HEADS).state_dict(), source, target, head_first=True, num_heads=HEADS)


def test_a_vision_transformer_has_no_order_of_heads():
    state = {f"blocks.0.attn.{key}": value for key, value in draw_attention(()).items()}
    with pytest.raises(ConversionError, match="vision transformer"):
        convert_checkpoint(state, "timm", "bundle", head_first=True, num_heads=HEADS)


@pytest.mark.parametrize("head_first", [True, False])
def test_attention_of_tokens_is_told_and_attends_alike(head_first):
    state = draw_attention(())
    assert detect_family(state) == "timm"
    ours = SABlock(WIDTH, HEADS, qkv_bias=True)
    load(ours, convert_checkpoint(state, "timm", "bundle", ours, head_first=head_first))
    tokens = torch.randn(9, WIDTH)
    with torch.no_grad():
        found = ours(tokens[None])[0].double()
    torch.testing.assert_close(found, attend_in_float64(state, tokens, head_first), atol=1e-5, rtol=1e-5)


def test_block_on_its_own_goes_there_and_back():
    shapes = {f"{name}.{kind}": (WIDTH,) for name in ("norm1", "norm2") for kind in ("weight", "bias")}
    shapes |= {"mlp.fc1.weight": (MLP, WIDTH), "mlp.fc1.bias": (MLP,)}
    shapes |= {"mlp.fc2.weight": (WIDTH, MLP), "mlp.fc2.bias": (WIDTH,)}
    state = draw(shapes) | {f"attn.{key}": value for key, value in draw_attention(()).items()}
    ours = TransformerBlock(WIDTH, MLP, HEADS, qkv_bias=True)
    converted = convert_checkpoint(state, detect_family(state), "bundle", ours)
    load(ours, converted)
    assert torch.equal(converted["mlp.linear1.weight"], state["mlp.fc1.weight"])
    assert_same(convert_checkpoint(converted, "bundle", "timm"), state)


def test_attention_inside_another_network_needs_that_network():
    state = {f"body.{key}": value for key, value in draw_attention().items()} | {"stem.weight": torch.ones(WIDTH)}
    with pytest.raises(ConversionError, match=r"no attention and no block: stem\.weight"):
        convert_checkpoint(state, "timm", "bundle")
    network = nn.ModuleDict({"body": SpatialAttention(WIDTH, HEADS, 2), "stem": nn.LayerNorm(WIDTH, bias=False)})
    load(network, convert_checkpoint(state, "timm", "bundle", network, head_first=True))
    assert_attends_alike(network["body"], {key: state[f"body.{key}"] for key in draw_attention()}, head_first=True)


def test_attention_of_a_family_that_is_not_known_is_no_guess():
    state = SABlock(WIDTH, HEADS).state_dict()
    state["to_result.weight"] = state.pop("out_proj.weight")
    del state["out_proj.bias"]
    with pytest.raises(ConversionError, match=r"no known family, beside to_result\.weight"):
        detect_family(state)
