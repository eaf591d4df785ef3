"""Spatial attention: timm's mended Attention2d from its formula, SABlock on the flattened map, forms and arguments."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from networks import SABlock, SpatialAttention
from networks.spatial_attention import ResidualSpatialAttention

CHANNELS, HEADS = 12, 3
FORMS = list(product((True, False), (True, False)))  # use_combined_linear, use_flash_attention
WIDTHS = [
    {},
    {"out_channels": 18},
    {"out_channels": 18, "expand_first": True},
    {"out_channels": 6, "expand_first": True, "qkv_bias": False},
]


def feature_map(*size: int) -> torch.Tensor:
    return torch.randn(2, CHANNELS, *size, generator=torch.Generator().manual_seed(1))


def make(seed: int = 0, **options) -> SpatialAttention:
    torch.manual_seed(seed)
    return SpatialAttention(CHANNELS, HEADS, **options).eval()


def attention2d(state: dict[str, torch.Tensor], x: torch.Tensor, added: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Compute timm's ``Attention2d`` in float64, eager path, scale ``dim_head ** -0.5``, from its names of weights."""
    state = {name: value.double() for name, value in state.items()}

    def convolve(name: str, value: torch.Tensor) -> torch.Tensor:
        out = torch.einsum("oi,bihw->bohw", state[f"{name}.weight"][:, :, 0, 0], value)
        return out + state[f"{name}.bias"][:, None, None] if f"{name}.bias" in state else out

    batch, _, height, width = x.shape
    qkv = convolve("qkv", x.double())
    dim_head = qkv.shape[1] // 3 // HEADS
    q, k, v = qkv.reshape(batch, 3, HEADS, dim_head, height * width).unbind(1)
    weights = torch.softmax(torch.einsum("bhdq,bhdk->bhqk", q, k) * dim_head**-0.5 + added, dim=-1)
    out = torch.einsum("bhqk,bhdk->bhdq", weights, v).reshape(batch, HEADS * dim_head, height, width)
    return convolve("proj", out)


@pytest.mark.parametrize(("combined", "flash"), FORMS)
@pytest.mark.parametrize("options", WIDTHS, ids=str)
def test_equals_timms_formula_with_timms_names(combined, flash, options):
    x, own = feature_map(4, 5), make(spatial_dims=2, **options).state_dict()
    timm = {name.replace("out_proj", "proj"): value for name, value in own.items()}
    block = make(9, spatial_dims=2, use_combined_linear=combined, use_flash_attention=flash, **options)
    block.load_state_dict(timm, strict=True)
    assert "proj.weight" in timm, "the caller's dictionary must stay as it is"
    torch.testing.assert_close(block(x).double(), attention2d(timm, x), atol=1e-5, rtol=0)
    torch.testing.assert_close(block.double()(x.double()), attention2d(timm, x), atol=1e-10, rtol=0)


@pytest.mark.parametrize(("combined", "flash"), FORMS)
def test_bool_and_additive_masks_mean_the_same(combined, flash):
    x, kept = feature_map(4, 5), torch.rand(2, HEADS, 20, 20, generator=torch.Generator().manual_seed(2)) > 0.4
    added = torch.where(kept, 0.0, -torch.inf)
    block = make(spatial_dims=2, use_combined_linear=combined, use_flash_attention=flash)
    state = {name.replace("out_proj", "proj"): value for name, value in make(spatial_dims=2).state_dict().items()}
    expected = attention2d(state, x, added.double())
    assert expected.isfinite().all()
    for mask in (kept, added):
        torch.testing.assert_close(block(x, mask).double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("size", [(4, 5), (2, 3, 4)])
def test_equals_sablock_on_the_flattened_map(flash, size):
    block = make(spatial_dims=len(size), use_flash_attention=flash)
    dense = SABlock(CHANNELS, HEADS, qkv_bias=True).eval()
    dense.load_state_dict(
        {name: value.flatten(1) if value.dim() > 1 else value for name, value in block.state_dict().items()}
    )
    x = feature_map(*size)
    points = x.flatten(2).shape[-1]
    keys = torch.rand(2, points, generator=torch.Generator().manual_seed(2)) > 0.4
    keys[1] = False  # nothing to attend to
    for mask in (None, keys):
        expected = dense(x.flatten(2).transpose(1, 2), mask).transpose(1, 2).reshape(x.shape)
        torch.testing.assert_close(block(x, mask), expected, atol=1e-5, rtol=0)


def test_gradients_of_every_form_agree():
    gradients = []
    for combined, flash in FORMS:
        block = make(use_combined_linear=combined, use_flash_attention=flash).double()
        x = feature_map(2, 3, 4).double().requires_grad_()
        block(x).square().sum().backward()
        gradients.append((x.grad, block.out_proj.weight.grad))
    for one in gradients[1:]:
        for found, expected in zip(one, gradients[0], strict=True):
            torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("combined", "flash"), FORMS)
def test_scripts_and_runs_at_two_sizes(spatial_dims, combined, flash):
    block = make(spatial_dims=spatial_dims, use_combined_linear=combined, use_flash_attention=flash)
    scripted = torch.jit.script(block)
    for size in ((4, 5, 2)[:spatial_dims], (3, 2, 6)[:spatial_dims]):
        torch.testing.assert_close(scripted(feature_map(*size)), block(feature_map(*size)), atol=1e-6, rtol=0)


def test_exports_with_dynamic_sizes_and_runs_in_bfloat16():
    block, auto = make(), torch.export.Dim.AUTO
    shapes = ({0: auto, 2: auto, 3: auto, 4: auto},)
    program = torch.export.export(block, (feature_map(3, 4, 5),), dynamic_shapes=shapes).module()
    x = feature_map(6, 2, 7)
    torch.testing.assert_close(program(x), block(x), atol=1e-6, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        found = block(x)
    assert (found - block(x)).abs().max() < 0.02 * block(x).abs().max()


def test_residual_starts_as_the_identity_and_learns():
    block, x = ResidualSpatialAttention(CHANNELS, HEADS), feature_map(2, 3, 4)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.attn.out_proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, "12, must be divisible by num_heads, got 5"),
        ({"num_heads": 0}, "got 0"),
        ({"out_channels": 16, "expand_first": True}, "16, must be divisible"),
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"dropout_rate": -0.1}, "got -0.1"),
    ],
)
def test_bad_arguments_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        SpatialAttention(**{"channels": CHANNELS, "num_heads": HEADS, **options})


def test_input_of_another_dimension_is_refused():
    with pytest.raises(ValueError, match="3 axes"):
        make()(feature_map(4, 5))
