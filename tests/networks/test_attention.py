"""SABlock: both layouts and both kernels against a float64 reference, MONAI's class and TorchScript."""

from __future__ import annotations

import io
from itertools import product

import pytest
import torch
from monai.networks.blocks.selfattention import SABlock as MonaiSABlock
from monai.networks.blocks.transformerblock import TransformerBlock as MonaiTransformerBlock

from networks import SABlock, TransformerBlock, combine_qkv, separate_qkv
from networks.position import AxialRotary

HIDDEN, HEADS, TOKENS = 48, 4, 30
FORMS = list(product((True, False), (True, False)))  # use_combined_linear, use_flash_attention


def make_block(combined: bool = True, flash: bool = True, seed: int = 0, **options) -> SABlock:
    torch.manual_seed(seed)
    return SABlock(HIDDEN, HEADS, use_combined_linear=combined, use_flash_attention=flash, **options)


def make_tokens(count: int = TOKENS, seed: int = 1) -> torch.Tensor:
    return torch.randn(2, count, HIDDEN, generator=torch.Generator().manual_seed(seed))


def reference(block: SABlock, x: torch.Tensor, mask=None, rotary=None, causal=False) -> torch.Tensor:
    """Attention from its formula, one head and one query at a time, in the type of ``x``."""
    state = combine_qkv(block.state_dict())
    weight = state["qkv.weight"].to(x.dtype)
    bias = state.get("qkv.bias", torch.zeros(len(weight))).to(x.dtype)
    heads, dim = block.num_heads, block.dim_head
    q, k, v = (part.reshape(*x.shape[:2], heads, dim) for part in (x @ weight.T + bias).chunk(3, dim=-1))
    if rotary is not None:
        q, k = rotate(q, rotary.to(x.dtype)), rotate(k, rotary.to(x.dtype))
    out = torch.zeros(*x.shape[:2], heads, dim, dtype=x.dtype)
    for b, n, h in product(range(x.shape[0]), range(x.shape[1]), range(heads)):
        scores = (k[b, :, h] @ q[b, n, h]) / dim**0.5
        allowed = torch.ones(x.shape[1], dtype=torch.bool) if mask is None else mask[b].bool().clone()
        if causal:
            allowed[n + 1 :] = False
        if allowed.any():
            weights = torch.softmax(scores[allowed], dim=0)
            out[b, n, h] = weights @ v[b, allowed, h]
    out = out.flatten(2)
    if block.include_fc:
        out = out @ state["out_proj.weight"].to(x.dtype).T + state["out_proj.bias"].to(x.dtype)
    return out


def rotate(x: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
    """Rotate pairs as complex numbers; x is (B, N, H, D)."""
    pairs = rotary.shape[-1]
    turn = torch.complex(rotary[0], rotary[1])[None, :, None, :]
    turned = torch.complex(x[..., :pairs], x[..., pairs : 2 * pairs]) * turn
    return torch.cat([turned.real, turned.imag, x[..., 2 * pairs :]], dim=-1)


OPTIONS = [
    {},
    {"qkv_bias": True},
    {"dim_head": 10},
    {"hidden_input_size": HIDDEN, "dim_head": 7, "qkv_bias": True},
    {"include_fc": False},
    {"causal": True, "sequence_length": 64},
]


@pytest.mark.parametrize(("combined", "flash"), FORMS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_equals_float64_reference(combined, flash, options, masked):
    block = make_block(combined, flash, **options).eval()
    x = make_tokens()
    mask = torch.rand(2, TOKENS, generator=torch.Generator().manual_seed(2)) > 0.4 if masked else None
    expected = reference(block, x.double(), mask, causal=options.get("causal", False))
    torch.testing.assert_close(block(x, mask).double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(block.double()(x.double(), mask), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("combined", "flash"), FORMS)
def test_rotary_equals_complex_rotation(combined, flash):
    block = make_block(combined, flash).eval().double()
    x, rotary = make_tokens().double(), AxialRotary(block.dim_head)(2, 3, 5)
    torch.testing.assert_close(block(x, None, rotary), reference(block, x, rotary=rotary), atol=1e-12, rtol=0)
    assert (block(x, None, rotary) - block(x)).abs().max() > 1e-3


@pytest.mark.parametrize("flash", [True, False])
def test_query_without_keys_gets_zero(flash):
    block = make_block(flash=flash, include_fc=False).eval()
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[1] = False
    out = block(make_tokens(), mask)
    assert torch.equal(out[1], torch.zeros_like(out[1]))
    assert out[0].abs().max() > 0


@pytest.mark.parametrize("combined", [True, False])
def test_gradients_of_both_kernels_equal_the_reference(combined):
    gradients = []
    for flash in (True, False):
        block, x = make_block(combined, flash, qkv_bias=True).double(), make_tokens().double().requires_grad_()
        block(x).square().sum().backward()
        state = combine_qkv({name: p.grad for name, p in block.named_parameters()})
        gradients.append({"x": x.grad, **state})
    x = make_tokens().double().requires_grad_()
    reference(block, x).square().sum().backward()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(gradients[0]["x"], x.grad, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_same_seed_gives_same_weights_in_both_layouts(qkv_bias):
    fused = make_block(True, qkv_bias=qkv_bias)
    after_fused = torch.get_rng_state()
    separate = make_block(False, qkv_bias=qkv_bias)
    assert torch.equal(torch.get_rng_state(), after_fused), "modules built next must start from the same weights too"
    converted = separate_qkv(fused.state_dict())
    assert converted.keys() == separate.state_dict().keys()
    assert all(torch.equal(converted[key], value) for key, value in separate.state_dict().items())
    for block in (fused, separate):
        torch.manual_seed(5)
        block.init_weights(0.02)
    assert all(
        torch.equal(separate_qkv(fused.state_dict())[key], value) for key, value in separate.state_dict().items()
    )


@pytest.mark.parametrize(("source", "target"), list(product((True, False), (True, False))))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_checkpoint_of_either_layout_loads_into_either_form(source, target, dtype, tolerance):
    first = make_block(source, qkv_bias=True, seed=3).to(dtype).eval()
    second = make_block(target, qkv_bias=True, seed=4).to(dtype).eval()
    state = first.state_dict()
    keys = list(state)
    second.load_state_dict(state, strict=True)
    assert list(state) == keys, "the caller's dictionary must stay as it is"
    x = make_tokens().to(dtype)
    torch.testing.assert_close(second(x), first(x), atol=tolerance, rtol=0)


def test_incomplete_checkpoint_is_refused():
    state = make_block(False).state_dict()
    del state["to_k.weight"]
    with pytest.raises(RuntimeError, match=r"qkv\.weight"):
        make_block(True).load_state_dict(state)


@pytest.mark.parametrize(("monai_combined", "combined", "flash"), list(product((True, False), repeat=3)))
@pytest.mark.parametrize("causal", [False, True])
def test_equals_monai_with_its_own_checkpoint(monai_combined, combined, flash, causal):
    options = {"qkv_bias": True, "causal": causal, "sequence_length": 64}
    theirs = MonaiSABlock(HIDDEN, HEADS, use_combined_linear=monai_combined, **options).eval()
    ours = make_block(combined, flash, **options).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(ours(make_tokens()), theirs(make_tokens()), atol=1e-6, rtol=0)


def test_transformer_block_loads_monai_checkpoint():
    theirs, ours = MonaiTransformerBlock(HIDDEN, 96, HEADS).eval(), TransformerBlock(HIDDEN, 96, HEADS).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(ours(make_tokens()), theirs(make_tokens()), atol=1e-6, rtol=0)


@pytest.mark.parametrize("flash", [True, False])
def test_dropout_acts_in_training_only(flash):
    block = make_block(flash=flash, dropout_rate=0.3)
    x = make_tokens()
    assert not torch.equal(block.train()(x), block(x))
    assert torch.equal(block.eval()(x), block(x))
    torch.testing.assert_close(block(x).double(), reference(block, x.double()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("flash", [True, False])
def test_saved_attention_has_rows_that_sum_to_one(flash):
    block = make_block(flash=flash, save_attn=True).eval()
    out = block(make_tokens())
    assert block.att_mat.shape == (2, HEADS, TOKENS, TOKENS)
    torch.testing.assert_close(block.att_mat.sum(-1), torch.ones(2, HEADS, TOKENS))
    torch.testing.assert_close(out, make_block(flash=flash).eval()(make_tokens()))


@pytest.mark.parametrize("flash", [True, False])
def test_attention_dtype_casts_all_three(flash):
    block = make_block(flash=flash, attention_dtype=torch.float64).eval()
    out = block(make_tokens())
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), reference(block, make_tokens().double()), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("combined", "flash"), FORMS)
@pytest.mark.parametrize("options", [*OPTIONS, {"dropout_rate": 0.2}, {"save_attn": True}], ids=str)
def test_every_form_scripts_saves_loads_and_agrees(combined, flash, options):
    block = make_block(combined, flash, **options).eval()
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(block), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for depth in (2, 4):  # two input sizes
        tokens, rotary = make_tokens(depth * 15), AxialRotary(block.dim_head)(depth, 3, 5)
        mask = torch.arange(depth * 15).expand(2, -1) % 3 != 0
        for given_mask, given_rotary in product((None, mask), (None, rotary)):
            expected = block(tokens, given_mask, given_rotary)
            torch.testing.assert_close(loaded(tokens, given_mask, given_rotary), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_size": 10, "num_heads": 3}, "divisible by num_heads 3"),
        ({"dropout_rate": 1.5}, "got 1.5"),
        ({"num_heads": 0}, "at least 1, got 0"),
        ({"causal": True}, "needs sequence_length"),
        ({"rel_pos_embedding": "decomposed"}, "needs input_size"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SABlock(**{"hidden_size": HIDDEN, "num_heads": HEADS, **arguments})


def test_mask_of_wrong_shape_and_overlong_causal_input_are_refused():
    with pytest.raises(ValueError, match="attn_mask must have the shape"):
        make_block()(make_tokens(), torch.ones(2, TOKENS + 1))
    with pytest.raises(ValueError, match="20 tokens was given 30"):
        make_block(causal=True, sequence_length=20)(make_tokens())


def test_conversion_leaves_the_callers_dictionary_alone():
    state = make_block(True, qkv_bias=True).state_dict()
    copy = dict(state)
    back = combine_qkv(separate_qkv(state))
    assert state.keys() == copy.keys() == back.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())
