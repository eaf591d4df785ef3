"""Channels last: the same results as float64 computes, whatever the network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bundle.engines.channels_last import (
    ExactGroupNorm,
    OneChannelConv,
    PointwiseConv,
    is_channels_last,
    to_channels_last,
)
from networks import UNETR, TransformerUNet

CHANNELS_LAST = torch.channels_last_3d


def feature_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    """Feature maps whose channels differ in mean and spread, as convolutions leave them."""
    random = torch.Generator().manual_seed(seed)
    spread = torch.rand(shape[1], 1, 1, 1, generator=random) * 5
    mean = torch.randn(shape[1], 1, 1, 1, generator=random) * 3
    return (torch.randn(shape, generator=random) * spread + mean).to(memory_format=CHANNELS_LAST)


def exact_norm(groups: int, channels: int, affine: bool = True) -> nn.GroupNorm:
    norm = nn.GroupNorm(groups, channels, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return to_channels_last(nn.Sequential(norm))[0]


@pytest.mark.parametrize(
    ("shape", "groups", "affine"),
    [
        ((1, 16, 96, 100, 90), 8, True),
        ((2, 24, 21, 17, 15), 3, True),
        ((1, 8, 40, 30, 30), 8, False),
        ((1, 6, 3, 4, 5), 2, True),
        ((1, 16, 30, 30, 30), 16, True),
    ],
    ids=["a head", "a batch", "without parameters", "fewer voxels than a part", "means far above the spread"],
)
def test_group_norm_is_as_exact_as_contiguous(shape, groups, affine):
    x, norm = feature_maps(*shape), exact_norm(groups, shape[1], affine)
    assert isinstance(norm, ExactGroupNorm)
    with torch.inference_mode():
        found, contiguous = norm(x), norm(x.contiguous())
        expected = copy.deepcopy(norm).double()(x.double().contiguous())
    assert is_channels_last(found)
    error, usual = ((result.double() - expected).abs().max() for result in (found, contiguous))
    assert error < max(5e-6, 2 * usual)


def test_group_norm_of_pytorch_is_not_exact_with_channels_last():
    """What this module is for; when it fails, the module may go."""
    x = feature_maps(1, 16, 96, 100, 90)
    with torch.inference_mode():
        found, expected = nn.GroupNorm(8, 16)(x), nn.GroupNorm(8, 16).double()(x.double().contiguous())
    assert (found - expected).abs().max() > 1e-4


def test_gradients_pass_through_pytorchs_own():
    x, norm = feature_maps(1, 8, 6, 6, 6).requires_grad_(), exact_norm(4, 8)
    norm(x).square().sum().backward()
    assert x.grad is not None
    assert norm.weight.grad is not None


@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_convolution_has_channels_first(bias):
    conv = nn.Conv3d(16, 33, 1, bias=bias)
    x = feature_maps(2, 16, 9, 8, 7)
    expected = conv.double()(x.double())
    found = to_channels_last(nn.Sequential(conv.float()))[0]
    assert isinstance(found, PointwiseConv)
    assert found(x).is_contiguous()
    assert (found(x) - expected).abs().max() < 1e-4
    cropped = x[:, :, :7, :, 1:]
    assert found(cropped).is_contiguous()
    assert (found(cropped) - expected[:, :, :7, :, 1:]).abs().max() < 1e-4


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(9, 8, 7), (40, 30, 24)], ids=["one part", "two parts"])
def test_pointwise_convolution_widens_what_it_is_given(bias, size):
    conv = nn.Conv3d(16, 33, 1, bias=bias)
    x = feature_maps(2, 16, *size).bfloat16()
    expected = copy.deepcopy(conv).double()(x.double())
    found = to_channels_last(nn.Sequential(conv))[0]
    with torch.inference_mode():
        assert found(x).dtype == torch.float32
        assert found(x).is_contiguous()
        for given in (x, x.contiguous()):
            assert (found(given) - expected).abs().max() < 1e-4
    assert (found(x) - expected).abs().max() < 1e-4
    found(x).sum().backward()
    assert found.weight.grad is not None


@pytest.mark.parametrize("size", [(12, 10, 9), (40, 30, 24)], ids=["small", "large"])
@pytest.mark.parametrize(
    "options",
    [{"padding": 1, "bias": False}, {"stride": (2, 1, 3), "padding": (0, 1, 2)}, {"dilation": 2}],
    ids=["same size", "strides", "dilated"],
)
def test_convolution_of_one_channel_has_channels_last(size, options):
    conv, x = nn.Conv3d(1, 16, 3, **options), torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    expected = copy.deepcopy(conv).double()(x.double())
    found = to_channels_last(nn.Sequential(conv))[0]
    assert isinstance(found, OneChannelConv)
    with torch.inference_mode():
        assert is_channels_last(found(x))
        assert (found(x) - expected).abs().max() < 1e-5
        with torch.autocast("cpu", torch.bfloat16):
            assert found(x).dtype == torch.bfloat16
            assert (found(x).double() - expected).abs().max() < 0.02
    assert torch.equal(copy.deepcopy(found).double()(x.double()), expected)
    x.requires_grad_()
    found(x).sum().backward()
    assert x.grad.abs().any()


@pytest.mark.parametrize(
    "conv",
    [nn.Conv3d(1, 8, 3, padding="same"), nn.Conv3d(1, 8, 3, padding=1, padding_mode="replicate")],
    ids=["padding by name", "padding that is not of zeros"],
)
def test_other_convolutions_of_one_channel_stay(conv):
    assert type(to_channels_last(nn.Sequential(conv))[0]) is nn.Conv3d


@pytest.mark.parametrize(
    "conv",
    [nn.Conv3d(4, 8, 1, stride=2), nn.Conv3d(4, 8, 1, groups=2), nn.Conv3d(4, 8, 1, padding=1), nn.Conv3d(4, 8, 3)],
)
def test_other_convolutions_stay(conv):
    x = feature_maps(1, 4, 8, 8, 8)
    expected = conv(x)
    found = to_channels_last(nn.Sequential(conv))[0]
    assert type(found) is nn.Conv3d
    assert torch.allclose(found(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    "network",
    [
        TransformerUNet(channels=(8, 16, 16), hidden_size=48, mlp_dim=64, num_layers=2, num_heads=2, out_channels=5),
        UNETR(
            in_channels=1,
            out_channels=4,
            img_size=(32, 32, 32),
            feature_size=8,
            hidden_size=48,
            mlp_dim=64,
            num_heads=4,
        ),
    ],
    ids=lambda network: type(network).__name__,
)
def test_networks_give_the_logits_of_float64(network):
    network = network.eval()
    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    keys = list(network.state_dict())
    with torch.inference_mode():
        expected = copy.deepcopy(network).double()(image.double())
        found = to_channels_last(network)(image)
    assert list(network.state_dict()) == keys
    assert (found.double() - expected).abs().max() < 1e-4
