"""SABlock: every option with every mask in every form, against the float64 formula; scripted; gradients."""

from __future__ import annotations

from functools import cache, partial
from itertools import combinations, product
from typing import NamedTuple

import pytest
import torch

from networks import SABlock, combine_qkv
from networks.position import AxialRotary
from tests.networks.attention_reference import double_parameters, reference

HIDDEN, HEADS, BATCH, TOKENS = 18, 3, 2, 12
FORMS = list(product((True, False), (True, False)))  # use_combined_linear, use_flash_attention

OPTIONS = {
    "plain": {},
    "bias": {"qkv_bias": True},
    "dim_head": {"dim_head": 7},
    "indivisible": {"hidden_size": 20, "dim_head": 5, "qkv_bias": True},
    "hidden_input": {"hidden_size": 24, "hidden_input_size": HIDDEN},
    "no_fc": {"include_fc": False},
    "causal": {"causal": True, "sequence_length": 20},
    "relative_2d": {"rel_pos_embedding": "decomposed", "input_size": (3, 4)},
    "relative_3d": {"rel_pos_embedding": "decomposed", "input_size": (2, 3, 2), "qkv_bias": True},
    "save_attn": {"save_attn": True},
    "attention_dtype": {"attention_dtype": torch.float64},
    "qk_norm": {"qk_norm": True},
    "dropout_in_eval": {"dropout_rate": 0.3},
    "rotary": {},
    "all": {
        "qkv_bias": True,
        "dim_head": 8,
        "causal": True,
        "sequence_length": TOKENS,
        "rel_pos_embedding": "decomposed",
        "input_size": (1, 4, 3),
        "save_attn": True,
        "qk_norm": True,
        "dropout_rate": 0.1,
    },
}


def make_masks() -> dict[str, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(3)

    def kept(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) > 0.4

    def added(*shape: int) -> torch.Tensor:
        values = torch.randn(*shape, generator=generator)
        return values.masked_fill(~kept(*shape), -torch.inf)

    no_keys = kept(BATCH, TOKENS)
    no_keys[1] = False
    empty_rows = kept(BATCH, HEADS, TOKENS, TOKENS)
    empty_rows[0, 1, 4] = False
    float_rows = added(BATCH, TOKENS, TOKENS)
    float_rows[1, [0, 5]] = -torch.inf
    return {
        "none": None,
        "keys": kept(BATCH, TOKENS),
        "integer_keys": kept(BATCH, TOKENS).int(),
        "float_keys": added(BATCH, TOKENS),
        "batch_without_keys": no_keys,
        "pairs": kept(TOKENS, TOKENS),
        "float_pairs": added(TOKENS, TOKENS),
        "batch_pairs": kept(BATCH, TOKENS, TOKENS),
        "float_batch_pairs_with_empty_rows": float_rows,
        "head_pairs_with_empty_rows": empty_rows,
        "float_head_pairs": added(BATCH, HEADS, TOKENS, TOKENS),
    }


MASKS = make_masks()
EACH_OPTION = pytest.mark.parametrize("option", OPTIONS)
PAIRS = [
    (one, other)
    for one, other in combinations(OPTIONS, 2)
    if not OPTIONS[one].keys() & OPTIONS[other].keys() and "plain" not in (one, other)
]


def options_of(option: str) -> dict:
    """Return the arguments of an option, or of several joined by a plus sign."""
    return {name: value for part in option.split("+") for name, value in OPTIONS[part].items()}


@cache
def make_block(option: str, combined: bool, flash: bool, dtype: torch.dtype = torch.float32) -> SABlock:
    torch.manual_seed(0)
    block = SABlock(
        **{"hidden_size": HIDDEN, "num_heads": HEADS, **options_of(option)},
        use_combined_linear=combined,
        use_flash_attention=flash,
    ).eval()
    for name, parameter in block.named_parameters():
        if "rel_pos" in name or "norm" in name:
            torch.nn.init.normal_(parameter)
    return block.to(dtype)


@cache
def inputs(option: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return tokens and rotation tables."""
    block = make_block(option, True, True)
    x = torch.randn(BATCH, TOKENS, block.hidden_input_size, generator=torch.Generator().manual_seed(1))
    return x, AxialRotary(block.dim_head)(2, 3, 2) if "rotary" in option else None


class Formula(NamedTuple):
    """What the formula gives, in float64, and what it is differentiated by."""

    out: torch.Tensor
    leaves: dict[str, torch.Tensor]


@cache
def formula(option: str, mask_name: str) -> Formula:
    block, (x, rotary) = make_block(option, True, True), inputs(option)
    parameters, source = double_parameters(block), x.double().requires_grad_()
    out = reference(block, parameters, source, MASKS[mask_name], rotary, options_of(option).get("input_size"))
    return Formula(out, {"x": source, **parameters})


def test_the_matrix_tries_empty_rows():
    assert not MASKS["float_batch_pairs_with_empty_rows"].isfinite().any(-1).all()
    assert not MASKS["head_pairs_with_empty_rows"].any(-1).all()


@EACH_OPTION
def test_every_form_equals_the_formula_under_every_mask(option):
    x, rotary = inputs(option)
    for (name, mask), form in product(MASKS.items(), FORMS):
        expected = formula(option, name).out
        assert expected.isfinite().all()
        single, double = make_block(option, *form), make_block(option, *form, torch.float64)
        tell = partial("{} {}: {}".format, name, form)
        torch.testing.assert_close(single(x, mask, rotary).double(), expected, atol=1e-5, rtol=0, msg=tell)
        torch.testing.assert_close(double(x.double(), mask, rotary), expected, atol=1e-10, rtol=0, msg=tell)


def assert_gradients(option: str, mask_name: str) -> None:
    """Hold the gradients of every form equal to those of the formula."""
    (x, rotary), mask, (out, leaves) = inputs(option), MASKS[mask_name], formula(option, mask_name)
    weights = torch.randn(BATCH, TOKENS, 1, generator=torch.Generator().manual_seed(2))
    loss = (out * weights.double()).square().sum()
    expected = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), retain_graph=True), strict=True))
    largest = max(gradient.abs().max() for gradient in expected.values())
    for form in FORMS:
        block, tokens = make_block(option, *form), x.clone().requires_grad_()
        block.zero_grad()
        (block(tokens, mask, rotary) * weights).square().sum().backward()
        found = {"x": tokens.grad, **combine_qkv({name: p.grad for name, p in block.named_parameters()})}
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            # A shift of all keys changes nothing: the gradient of k_norm.bias is 0, and its error that of the others.
            scale = expected[name].abs().max().clamp_min(0.01 * largest)
            assert (gradient.double() - expected[name]).abs().max() < 1e-4 * scale, (mask_name, name, form)


@EACH_OPTION
def test_gradients_of_every_form_equal_those_of_the_formula_under_every_mask(option):
    for mask_name in MASKS:
        assert_gradients(option, mask_name)


@pytest.mark.parametrize("one", dict.fromkeys(one for one, _ in PAIRS))
@torch.no_grad()
def test_every_pair_of_options_works_together(one):
    for option in (f"{one}+{other}" for first, other in PAIRS if first == one):
        x, rotary = inputs(option)
        for mask_name, form in product(("none", "float_batch_pairs_with_empty_rows"), FORMS):
            found, expected = make_block(option, *form)(x, MASKS[mask_name], rotary), formula(option, mask_name).out
            tell = partial("{} {} {}: {}".format, option, mask_name, form)
            torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0, msg=tell)


@EACH_OPTION
@torch.no_grad()
def test_every_scripted_form_equals_eager_under_every_mask(option):
    x, rotary = inputs(option)
    for form in FORMS:
        block = make_block(option, *form)
        scripted = torch.jit.script(block)
        for name, mask in MASKS.items():
            found, expected = scripted(x, mask, rotary), block(x, mask, rotary)
            tell = partial("{} {}: {}".format, name, form)
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0, msg=tell)


@pytest.mark.parametrize("option", ["save_attn", "all"])
@pytest.mark.parametrize("flash", [True, False])
def test_saved_attention_sums_to_one_or_to_zero_without_keys(option, flash):
    (x, rotary), mask = inputs(option), MASKS["head_pairs_with_empty_rows"]
    block = make_block(option, True, flash)
    block(x, mask, rotary)
    assert block.att_mat.shape == (BATCH, HEADS, TOKENS, TOKENS)
    allowed = mask.tril() if OPTIONS[option].get("causal") else mask
    torch.testing.assert_close(block.att_mat.sum(-1), allowed.any(-1).float())
    assert not block.att_mat[~allowed].any()


@pytest.mark.parametrize("option", ["plain", "all", "qk_norm", "rotary"])
@pytest.mark.parametrize("mask_name", ["none", "keys", "float_batch_pairs_with_empty_rows"])
def test_bfloat16_autocast_stays_within_two_percent(option, mask_name):
    (x, rotary), expected = inputs(option), formula(option, mask_name).out
    for form in FORMS:
        with torch.autocast("cpu", torch.bfloat16):
            found = make_block(option, *form)(x, MASKS[mask_name], rotary)
        assert found.isfinite().all()
        assert (found.double() - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize(
    ("flash", "mask_name"),
    [
        (True, "none"), (True, "float_batch_pairs_with_empty_rows"), (False, "pairs"),
        *[pytest.param(*pair, marks=pytest.mark.slow) for pair in (
            (True, "keys"), (True, "pairs"),
            (False, "none"), (False, "keys"), (False, "float_batch_pairs_with_empty_rows"),
        )],
    ],
)  # fmt: skip
def test_exports_with_dynamic_batch_and_tokens(mask_name, flash):
    block, mask = make_block("bias", True, flash), MASKS[mask_name]
    auto = torch.export.Dim.AUTO
    x = torch.randn(BATCH, TOKENS, HIDDEN)
    arguments = (x,) if mask is None else (x, mask)
    shapes = tuple(dict.fromkeys(range(a.dim() if a is mask else 2), auto) for a in arguments)
    program = torch.export.export(block, arguments, dynamic_shapes=shapes).module()
    more = torch.randn(3, 17, HIDDEN)
    if mask is not None:
        shape = {2: (17, 17) if mask_name == "pairs" else (3, 17), 3: (3, 17, 17)}[mask.dim()]
        mask = torch.rand(shape) > 0.5 if mask.dtype == torch.bool else torch.randn(shape).log()
        mask = mask if mask.dtype == torch.bool else mask.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    arguments = (more,) if mask is None else (more, mask)
    torch.testing.assert_close(program(*arguments), block(*arguments), atol=1e-6, rtol=0)
