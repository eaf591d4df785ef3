"""Blocks that go through planes and work in place, against the same blocks as PyTorch computes them in float64."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from bundle.engines import slabwise
from bundle.engines.channels_last import ExactGroupNorm, to_channels_last
from bundle.engines.slabwise import SlabwiseUp, go_slabwise
from networks.transformer_unet import UpBlock, conv_block

CHANNELS_LAST = torch.channels_last_3d


def make_block(seed=0) -> UpBlock:
    torch.manual_seed(seed)
    block = UpBlock(12, 8).eval()
    nn.init.normal_(block.refine[1].weight)
    nn.init.normal_(block.refine[1].bias)
    return block


def make_maps(batch=1, size=(9, 6, 5)):
    random = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 12, *size, generator=random)
    skip = torch.randn(batch, 8, *(2 * length for length in size), generator=random)
    return x.to(memory_format=CHANNELS_LAST), skip.to(memory_format=CHANNELS_LAST)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("slab", [1, 2 * 4 * 8 * 12 * 10, 6 * 4 * 8 * 12 * 10, 1 << 30])
def test_planes_give_what_all_at_once_does(batch, slab, monkeypatch):
    monkeypatch.setattr(slabwise, "LEAST_BYTES", 0)
    monkeypatch.setattr(slabwise, "SLAB_BYTES", slab)
    block, (x, skip) = make_block(), make_maps(batch)
    expected = deepcopy(block).double()(x.double(), skip.double())
    found = go_slabwise(to_channels_last(block))
    assert type(found) is SlabwiseUp
    with torch.inference_mode():
        answer = found(x, skip)
    torch.testing.assert_close(answer.double(), expected.detach(), atol=1e-5, rtol=1e-5)
    assert answer.data_ptr() == skip.data_ptr() or slab == 1 << 30, "in the place of the skip"


def test_bfloat16_goes_through_planes_too(monkeypatch):
    block, (x, skip) = make_block(), make_maps()
    expected = deepcopy(block)(x, skip)
    found = go_slabwise(to_channels_last(block))
    monkeypatch.setattr(slabwise, "LEAST_BYTES", 0)
    monkeypatch.setattr(slabwise, "SLAB_BYTES", 1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        answer = found(x.bfloat16(), skip.bfloat16())
    assert answer.dtype == torch.bfloat16
    torch.testing.assert_close(answer.float(), expected.detach(), atol=0.1, rtol=0.1)


def test_float64_takes_the_usual_way(monkeypatch):
    monkeypatch.setattr(slabwise, "LEAST_BYTES", 0)
    monkeypatch.setattr(slabwise, "SLAB_BYTES", 1)
    block, (x, skip) = make_block().double(), (maps.double() for maps in make_maps())
    expected = deepcopy(block)(x, skip).detach()
    with torch.inference_mode():
        torch.testing.assert_close(go_slabwise(to_channels_last(block))(x, skip), expected)


@pytest.mark.parametrize("last", [False, True])
def test_gradients_and_other_layouts_take_the_usual_way_and_leave_the_skip(last, monkeypatch):
    monkeypatch.setattr(slabwise, "LEAST_BYTES", 0)
    monkeypatch.setattr(slabwise, "SLAB_BYTES", 1)
    block, (x, skip) = make_block(), make_maps()
    x, skip = (x, skip) if last else (x.contiguous(), skip.contiguous())
    expected, kept = deepcopy(block)(x, skip), skip.clone()
    found = go_slabwise(to_channels_last(block))
    answer = found(x, skip)
    assert answer.requires_grad
    torch.testing.assert_close(answer, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(skip, kept)


def test_a_norm_after_a_convolution_works_in_place_and_does_the_leaky_relu():
    torch.manual_seed(0)
    block = conv_block(3, 16).eval()
    x = torch.randn(2, 3, 12, 11, 10).to(memory_format=CHANNELS_LAST)
    expected = deepcopy(block).double()(x.double()).detach()
    names = list(block.state_dict())
    found = to_channels_last(block)
    assert isinstance(found[1], ExactGroupNorm)
    assert (found[1].in_place, found[1].slope) == (True, 0.01)
    assert list(found.state_dict()) == names
    with torch.inference_mode():
        torch.testing.assert_close(found(x).double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found(x).double(), expected, atol=1e-5, rtol=1e-5)  # with gradients


def test_a_norm_on_its_own_leaves_its_input():
    norm = to_channels_last(nn.GroupNorm(4, 16))
    x = torch.randn(1, 16, 12, 11, 10).to(memory_format=CHANNELS_LAST)
    kept = x.clone()
    with torch.inference_mode():
        found = norm(x)
    assert torch.equal(x, kept)
    torch.testing.assert_close(found, nn.functional.group_norm(kept.contiguous(), 4), atol=1e-5, rtol=1e-5)
