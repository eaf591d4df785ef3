"""timm's vision transformers, there and back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bundle.conversion import convert_checkpoint, detect_family
from bundle.errors import ConversionError
from networks import ViT
from tests.bundle.conversion.models import (
    HEADS,
    PATCH,
    SIZES,
    WIDTH,
    assert_same,
    load,
    make_timm,
    make_vit,
    randomise,
)


def timm_forward(state, image, pool="token"):
    """timm's ``VisionTransformer.forward`` in evaluation mode, written out; ``map`` pools the patch tokens."""

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name, x):
        weight = state[f"{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, state[f"{name}.bias"], eps=1e-6)

    def heads(x):
        return x.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)

    def attend(q, k, v):
        weights = (q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    def mlp(name, x):
        return linear(f"{name}.fc2", F.gelu(linear(f"{name}.fc1", x)))

    x = F.conv2d(image, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH)
    x = x.flatten(2).transpose(1, 2)
    prefix = 1 if "cls_token" in state else 0
    positions = state["pos_embed"]
    if positions.shape[1] == x.shape[1]:  # the class token has no position
        positions = F.pad(positions, (0, 0, prefix, 0))
    if prefix:
        x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + positions
    for index in range(2):
        block = f"blocks.{index}."
        q, k, v = (heads(part) for part in linear(f"{block}attn.qkv", norm(f"{block}norm1", x)).chunk(3, dim=-1))
        if f"{block}attn.q_norm.weight" in state:
            q, k = norm(f"{block}attn.q_norm", q), norm(f"{block}attn.k_norm", k)
        x = x + linear(f"{block}attn.proj", attend(q, k, v))
        x = x + mlp(f"{block}mlp", norm(f"{block}norm2", x))
    if pool == "avg":
        return linear("head", norm("fc_norm", x[:, prefix:].mean(dim=1)))
    x = norm("norm", x)
    if pool == "map":
        k, v = linear("attn_pool.kv", x[:, prefix:]).chunk(2, dim=-1)
        q = linear("attn_pool.q", state["attn_pool.latent"].expand(len(x), -1, -1))
        x = linear("attn_pool.proj", attend(heads(q), heads(k), heads(v)))
        x = x + mlp("attn_pool.mlp", norm("attn_pool.norm", x))
    return linear("head", x[:, 0])


TIMM = {
    "token": ({}, {}),
    "token_without_its_position": ({"class_position": False}, {}),
    "no_bias": ({"bias": False}, {"qkv_bias": False}),
    "not_square": ({"grid": (2, 6)}, {"img_size": (16, 48)}),
    "avg": ({"pool": "avg"}, {"class_token": True}),
    "avg_without_class_token": ({"pool": "avg", "class_token": False}, {}),
    "map": ({"pool": "map", "class_token": False}, {}),
    "map_with_class_token": ({"pool": "map"}, {"class_token": True}),
}


@pytest.mark.parametrize("combined", [True, False])
@pytest.mark.parametrize("name", TIMM)
def test_timm_vit_has_the_same_outputs_here(name, combined):
    theirs_options, ours_options = TIMM[name]
    pool = theirs_options.get("pool", "token")
    state = make_timm(**theirs_options)
    assert detect_family(state) == "timm"
    ours = make_vit(pool, use_combined_linear=combined, **ours_options)
    load(ours, convert_checkpoint(state, "timm", "bundle", ours))
    size = ours_options.get("img_size", 32)
    image = torch.randn(2, 3, *((size, size) if isinstance(size, int) else size))
    with torch.no_grad():
        torch.testing.assert_close(ours(image), timm_forward(state, image, pool), atol=1e-5, rtol=1e-5)


def test_timm_vit_with_normed_queries_has_the_same_outputs_here():
    state = make_timm(qk_norm=True)
    ours = make_vit(qk_norm=True)
    load(ours, convert_checkpoint(state, "timm", "bundle", ours))
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), timm_forward(state, image), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("combined", [True, False])
@pytest.mark.parametrize("name", TIMM)
def test_bundle_vit_has_the_same_outputs_in_timm(name, combined):
    theirs_options, ours_options = TIMM[name]
    pool = theirs_options.get("pool", "token")
    ours = randomise(make_vit(pool, use_combined_linear=combined, **ours_options))
    state = convert_checkpoint(ours.state_dict(), "bundle", "timm")
    shapes = {key: value.shape for key, value in make_timm(**theirs_options | {"class_position": True}).items()}
    assert {key: value.shape for key, value in state.items()} == shapes
    size = ours_options.get("img_size", 32)
    image = torch.randn(2, 3, *((size, size) if isinstance(size, int) else size))
    with torch.no_grad():
        torch.testing.assert_close(timm_forward(state, image, pool), ours(image), atol=1e-5, rtol=1e-5)
    assert_same(convert_checkpoint(state, "timm", "bundle", ours), ours.state_dict())


@pytest.mark.parametrize("pool", ["token", "avg", "map"])
def test_timm_there_and_back_gives_the_same_tensors(pool):
    state = make_timm(pool, class_token=pool == "token")
    back = convert_checkpoint(convert_checkpoint(state, "timm", "bundle"), "bundle", "timm")
    if pool == "token":  # token and position are summed in timm too
        state = state | {"cls_token": state["cls_token"] + state["pos_embed"][:, :1]}
        state["pos_embed"] = torch.cat([torch.zeros(1, 1, WIDTH), state["pos_embed"][:, 1:]], dim=1)
    assert_same(back, state)


@pytest.mark.parametrize("extra", ["reg_token", "blocks.0.ls1.gamma", "norm_pre.weight", "attn_pool.pos_embed"])
def test_unknown_timm_keys_are_listed(extra):
    state = make_timm("map") | {extra: torch.ones(1), "patch_embed.norm.weight": torch.ones(1)}
    with pytest.raises(ConversionError, match=r"patch_embed\.norm\.weight") as caught:
        convert_checkpoint(state, "timm", "bundle")
    assert extra in str(caught.value)


def test_keys_that_timm_lacks_are_listed():
    ours = ViT(**SIZES, global_pool="token", proj_type="perceptron")
    with pytest.raises(
        ConversionError, match=r"patch_embeddings\.1\.weight, patch_embedding\.patch_embeddings\.1\.bias"
    ):
        convert_checkpoint(ours.state_dict(), "bundle", "timm")


@pytest.mark.parametrize("missing", ["attn_pool.kv.weight", "attn_pool.q.bias"])
def test_incomplete_attention_pool_is_an_error_that_lists_the_keys(missing):
    state = make_timm("map")
    del state[missing]
    with pytest.raises(ConversionError, match=rf"attn_pool\.kv\.bias.* lack {missing}"):
        convert_checkpoint(state, "timm", "bundle")


def test_misshapen_attention_pool_is_an_error_that_lists_the_keys():
    state = make_timm("map") | {"attn_pool.kv.weight": torch.ones(3 * WIDTH, WIDTH)}
    with pytest.raises(ConversionError, match=r"attn_pool\.q\.weight .*attn_pool\.kv\.weight \(72, 24\)"):
        convert_checkpoint(state, "timm", "bundle")


def test_positions_of_an_unknown_grid_need_it():
    state = make_timm(grid=(2, 6))
    with pytest.raises(ConversionError, match="13 positions, no square"):
        convert_checkpoint(state, "timm", "bundle")
    converted = convert_checkpoint(state, "timm", "bundle", grid_size=(2, 6))
    assert converted["patch_embedding.position_embeddings"].shape == (1, 12, WIDTH)
    with pytest.raises(ConversionError, match="which the grid"):
        convert_checkpoint(state, "timm", "bundle", grid_size=(2, 5))
