"""A tensor of another width or rank than a module is made for is refused in one line that says both."""

import pytest
import torch

from networks import (
    AttentionPool,
    BlockAttention,
    CrossAttentionBlock,
    GlobalLocalAttention,
    SABlock,
    SpatialAttention,
    TransformerBlock,
)

SEQUENCE, CONTEXT = "tokens must have the shape (B, N, 8)", "context must have the shape (B, N, 8)"
GRID = "tokens must have the shape (B, D, H, W, 8)"
EITHER = "tokens must have the shape (B, N, 8) or (B, D, H, W, 8)"
MAP = "input must have the shape (B, 8, 3 axes)"
MODULES = {
    "self": (lambda: SABlock(8, 2), SEQUENCE),
    "self, fused": (lambda: SABlock(8, 2, use_combined_linear=True), SEQUENCE),
    "block": (lambda: BlockAttention(8, 2, 2), GRID),
    "global and local": (lambda: GlobalLocalAttention(8, 2, 2), GRID),
    "transformer": (lambda: TransformerBlock(8, 16, 2), EITHER),
    "pool": (lambda: AttentionPool(8, 2), CONTEXT),
    "feature map": (lambda: SpatialAttention(8, 2), MAP),
}


def first_line(call):
    with pytest.raises((ValueError, torch.jit.Error)) as caught:
        call()
    return str(caught.value).strip().splitlines()[-1].removeprefix("builtins.ValueError: ")


@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.parametrize("shape", [(5, 8), (2, 5, 6), (2, 6, 3, 3, 6)])
@pytest.mark.parametrize("name", MODULES)
def test_wrong_shape_is_one_line_that_names_both(name, shape, scripted):
    make, wanted = MODULES[name]
    module = torch.jit.script(make().eval()) if scripted else make().eval()
    said = first_line(lambda: module(torch.rand(shape)))
    assert said.startswith(wanted)
    assert all(str(length) in said.split("got")[1] for length in shape)


@pytest.mark.parametrize("shape", [(5, 8), (2, 5, 6)])
def test_wrong_context_is_named(shape):
    for flag in (False, True):
        block = CrossAttentionBlock(8, 2, use_combined_linear=flag)
        assert first_line(lambda block=block: block(torch.rand(2, 3, 8), torch.rand(shape))).startswith(CONTEXT)
    block = TransformerBlock(8, 16, 2, with_cross_attention=True)
    assert first_line(lambda: block(torch.rand(2, 3, 8), torch.rand(shape))).startswith(CONTEXT)
