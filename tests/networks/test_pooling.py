"""AttentionPool and PooledHead against their formulas in float64."""

from __future__ import annotations

import io
import math
from itertools import product

import pytest
import torch
from torch import nn

from networks import AttentionPool, separate_qkv
from networks.pooling import GLOBAL_POOLS, PooledHead

HIDDEN, HEADS, TOKENS, EPS = 24, 3, 11, 1e-2
FORMS = list(product((True, False), (True, False)))  # use_combined_linear, use_flash_attention


def scramble(module: nn.Module, seed: int = 0) -> nn.Module:
    """Move every parameter off its initial value, so that a norm or bias left out shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def make_pool(combined: bool = True, flash: bool = True, seed: int = 0, **options) -> AttentionPool:
    torch.manual_seed(seed)
    options = {"mlp_dim": 40, "norm_eps": EPS, **options}
    return AttentionPool(HIDDEN, HEADS, use_combined_linear=combined, use_flash_attention=flash, **options).eval()


def make_filled_pool(combined: bool, flash: bool, **options) -> AttentionPool:
    """Return one of the four forms, all with the same weights."""
    state = scramble(make_pool(**options)).state_dict()
    pool = make_pool(combined, flash, seed=9, **options)
    pool.load_state_dict(state, strict=True)
    return pool


def make_tokens(count: int = TOKENS, seed: int = 1) -> torch.Tensor:
    return torch.randn(3, count, HIDDEN, generator=torch.Generator().manual_seed(seed))


def make_mask(count: int = TOKENS) -> torch.Tensor:
    """Return a mask (B, N) in which item 1 has no key at all."""
    mask = torch.rand(3, count, generator=torch.Generator().manual_seed(2)) > 0.4
    mask[1] = False
    return mask


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt() * weight + bias


def pool_reference(pool: AttentionPool, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return the pooled vectors (B, C) in float64, from the formula."""
    state = {name: value.double() for name, value in separate_qkv(pool.state_dict()).items()}
    tokens, width = tokens.double(), HIDDEN // HEADS

    def project(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ state[f"attn.{name}.weight"].T + state.get(f"attn.{name}.bias", torch.zeros(HIDDEN).double())

    q = project("to_q", state["latent"][0, 0])
    attended = torch.zeros(len(tokens), HIDDEN, dtype=torch.float64)
    for item, head in product(range(len(tokens)), range(HEADS)):
        part = slice(head * width, (head + 1) * width)
        kept = tokens[item] if mask is None else tokens[item][mask[item]]
        if len(kept):
            k, v = project("to_k", kept)[:, part], project("to_v", kept)[:, part]
            weights = (k @ q[part] / math.sqrt(width)).exp()
            attended[item, part] = (weights / weights.sum()) @ v
    x = project("out_proj", attended)
    y = layer_norm(x, state["norm.weight"], state["norm.bias"]) @ state["mlp.linear1.weight"].T
    y = y + state["mlp.linear1.bias"]
    y = y * (1 + torch.erf(y / math.sqrt(2))) / 2
    return x + y @ state["mlp.linear2.weight"].T + state["mlp.linear2.bias"]


@pytest.mark.parametrize(("combined", "flash"), FORMS)
@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_pool_equals_its_formula(combined, flash, qkv_bias, masked):
    pool, tokens = make_filled_pool(combined, flash, qkv_bias=qkv_bias), make_tokens()
    mask = make_mask() if masked else None
    expected = pool_reference(pool, tokens, mask)
    torch.testing.assert_close(pool(tokens, mask).double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(pool.double()(tokens.double(), mask), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("combined", "flash"), FORMS)
def test_item_without_keys_gets_the_bias_of_the_output_projection(combined, flash):
    pool, tokens = make_filled_pool(combined, flash), make_tokens()
    bias = pool.attn.out_proj.bias[None]
    expected = bias + pool.mlp(pool.norm(bias))
    for out in (pool(tokens, make_mask()), pool(1e3 * tokens, make_mask())):
        torch.testing.assert_close(out[1:2], expected, atol=1e-6, rtol=0)
        assert out.isfinite().all()


def test_masked_tokens_have_no_influence():
    pool, tokens, mask = make_filled_pool(True, True), make_tokens(), make_mask()
    torch.testing.assert_close(pool(tokens.masked_fill(~mask[..., None], 7.0), mask), pool(tokens, mask))


def test_gradients_are_finite_and_equal_in_all_forms():
    gradients = []
    for combined, flash in FORMS:
        pool, tokens = make_filled_pool(combined, flash).double(), make_tokens().double().requires_grad_()
        pool(tokens, make_mask()).square().sum().backward()
        gradients.append({"tokens": tokens.grad, **separate_qkv({n: p.grad for n, p in pool.named_parameters()})})
    assert all(gradient.isfinite().all() for gradient in gradients[0].values())
    assert not gradients[0]["tokens"][~make_mask()].any()
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-10, rtol=1e-10, msg=lambda text, n=name: n + text)


def test_attention_pool_gradient_equals_finite_differences():
    pool, tokens = make_filled_pool(True, True).double(), make_tokens(4)[:1].double().requires_grad_()
    assert torch.autograd.gradcheck(pool, (tokens,))


@pytest.mark.parametrize(("combined", "flash"), FORMS)
def test_attention_pool_scripts_saves_loads_and_agrees(combined, flash):
    pool = make_filled_pool(combined, flash)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(pool), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for count in (TOKENS, 5):
        for mask in (None, make_mask(count)):
            expected = pool(make_tokens(count), mask)
            torch.testing.assert_close(loaded(make_tokens(count), mask), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("source", "target"), list(product((True, False), repeat=2)))
def test_checkpoint_of_either_layout_loads(source, target):
    first, second = scramble(make_pool(source)), make_pool(target, seed=5)
    second.load_state_dict(first.state_dict(), strict=True)
    torch.testing.assert_close(second(make_tokens()), first(make_tokens()), atol=1e-6, rtol=0)


def test_mlp_is_four_times_as_wide_unless_said():
    assert AttentionPool(HIDDEN, HEADS).mlp.linear1.out_features == 4 * HIDDEN


def make_head(global_pool: str, num_classes: int = 5, **options) -> PooledHead:
    torch.manual_seed(0)
    head = PooledHead(HIDDEN, num_classes, global_pool, HEADS, norm_eps=EPS, **options)
    return scramble(head).eval()


def head_reference(head: PooledHead, tokens: torch.Tensor, prefix: int) -> torch.Tensor:
    """Return the outputs in float64, from the table in the docstring of ``PooledHead``."""
    patches = tokens.double()[:, prefix:]
    state = {name: value.double() for name, value in head.state_dict().items()}
    mean, largest = patches.sum(1) / patches.shape[1], patches.sort(1).values[:, -1]
    if head.global_pool == "map":
        vector = pool_reference(head.attn_pool, patches)
    else:
        vector = {
            "": tokens.double(),
            "avg": mean,
            "max": largest,
            "avgmax": mean / 2 + largest / 2,
            "token": tokens.double()[:, 0],
        }[head.global_pool]
    if head.global_pool in ("avg", "max", "avgmax"):
        vector = layer_norm(vector, state["norm.weight"], state["norm.bias"])
    if head.num_classes:
        vector = vector @ state["linear.weight"].T + state["linear.bias"]
    return vector


@pytest.mark.parametrize("global_pool", GLOBAL_POOLS)
@pytest.mark.parametrize("num_classes", [0, 5])
@pytest.mark.parametrize("prefix", [0, 1])
def test_head_equals_its_formula(global_pool, num_classes, prefix):
    head, tokens = make_head(global_pool, num_classes), make_tokens()
    expected = head_reference(head, tokens, prefix)
    torch.testing.assert_close(head(tokens, prefix).double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(head.double()(tokens.double(), prefix), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("global_pool", GLOBAL_POOLS)
def test_head_keeps_only_what_its_pool_needs(global_pool):
    names = {name.split(".")[0] for name in make_head(global_pool).state_dict()}
    needed = {"map": {"attn_pool"}, "": set(), "token": set()}.get(global_pool, {"norm"})
    assert names == needed | {"linear"}
    assert {name.split(".")[0] for name in make_head(global_pool, 0).state_dict()} == needed


@pytest.mark.parametrize("global_pool", GLOBAL_POOLS)
def test_head_scripts_saves_loads_and_agrees(global_pool):
    head = make_head(global_pool)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(head), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for count, prefix in ((TOKENS, 1), (4, 0)):
        torch.testing.assert_close(loaded(make_tokens(count), prefix), head(make_tokens(count), prefix))


@pytest.mark.parametrize("global_pool", GLOBAL_POOLS)
def test_every_token_that_is_pooled_gets_a_gradient(global_pool):
    tokens = make_tokens().double().requires_grad_()
    make_head(global_pool).double()(tokens, 1).square().sum().backward()
    touched = tokens.grad.abs().sum(-1) > 0
    wanted = {"": slice(None), "token": slice(0, 1)}.get(global_pool, slice(1, None))
    expected = torch.zeros_like(touched)
    expected[:, wanted] = True
    if global_pool == "max":
        assert touched.any()
        assert not touched[:, 0].any()
    else:
        assert torch.equal(touched, expected)
    assert tokens.grad.isfinite().all()


def test_reset_of_a_bare_head_follows_the_given_parameter():
    head = PooledHead(HIDDEN, 0, "", HEADS).eval()
    head.reset(2, "map", like=torch.empty(0, dtype=torch.float64))
    assert {p.dtype for p in head.parameters()} == {torch.float64}
    assert not any(module.training for module in head.modules())


@pytest.mark.parametrize("global_pool", ["map ", "Map", "mean", None])
def test_unknown_pool_is_refused_with_the_legal_ones(global_pool):
    legal = ", ".join(map(repr, GLOBAL_POOLS))
    with pytest.raises(ValueError, match=f"global_pool must be one of {legal}, got {global_pool!r}"):
        PooledHead(HIDDEN, 2, global_pool, HEADS)


@pytest.mark.parametrize("num_classes", [-1, 1.5, True])
def test_bad_number_of_classes_is_refused(num_classes):
    with pytest.raises(ValueError, match=rf"num_classes must be an integer of at least 0, got {num_classes!r}"):
        PooledHead(HIDDEN, num_classes, "avg", HEADS)
