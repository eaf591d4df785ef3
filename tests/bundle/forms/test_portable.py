"""The portable network computes what the network does, in sums that stay short."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bundle.engines.networks import OpenVinoNetwork
from bundle.forms.openvino import convert_openvino, write_openvino
from bundle.forms.portable import PointwiseProduct, SteppedGroupNorm, portable
from tests.tiny_network import tiny_network


@pytest.mark.parametrize("shape", [(2, 8, 5, 6, 7), (3, 4, 9, 2), (1, 6, 11)])
def test_stepped_group_norm_is_group_norm(shape):
    norm = nn.GroupNorm(2, shape[1]).double()
    nn.init.uniform_(norm.weight, -2, 2)
    nn.init.uniform_(norm.bias, -2, 2)
    x = torch.randn(shape, dtype=torch.float64) * 3 + 5
    stepped = SteppedGroupNorm(norm)
    torch.testing.assert_close(stepped(x), norm(x), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.jit.script(stepped)(x), norm(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_product_is_the_convolution(bias):
    convolution = nn.Conv3d(3, 7, 1, bias=bias).double()
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    product = PointwiseProduct(convolution)
    torch.testing.assert_close(product(x), convolution(x), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.jit.script(product)(x), convolution(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "convolution",
    [nn.Conv3d(8, 8, 1), nn.Conv3d(2, 8, 3), nn.Conv3d(2, 8, 1, stride=2), nn.Conv3d(2, 8, 1, padding=1),
     nn.Conv3d(2, 8, 1, groups=2)],
)  # fmt: skip
def test_other_convolutions_stay(convolution):
    copied = portable(nn.Sequential(convolution))
    assert isinstance(copied[0], nn.Conv3d)
    x = torch.rand(1, convolution.in_channels, 4, 5, 6)
    torch.testing.assert_close(copied(x), convolution(x))


def test_portable_copies_and_leaves_the_network_alone():
    network = tiny_network()
    copied = portable(network)
    assert any(isinstance(module, SteppedGroupNorm) for module in copied.modules())
    assert not any(isinstance(module, nn.GroupNorm) for module in copied.modules())
    assert isinstance(copied.head, PointwiseProduct)
    assert isinstance(network.head, nn.Conv3d)
    assert any(isinstance(module, nn.GroupNorm) for module in network.modules())
    image = torch.rand(1, 1, 17, 24, 16)
    torch.testing.assert_close(copied(image), network(image), atol=1e-4, rtol=1e-5)


def test_stepped_group_norm_is_why_a_large_window_agrees(tmp_path):
    network = nn.Sequential(nn.Conv3d(1, 16, 1), nn.GroupNorm(2, 16)).eval().requires_grad_(False)
    image = torch.rand(1, 1, 96, 112, 96)
    image[:, :, :40] = 0  # air
    exact = network.double()(image.double())
    network.float()
    errors = []
    for form in (network, portable(network)):
        write_openvino(convert_openvino(form), tmp_path / "model.xml")
        errors.append((OpenVinoNetwork(tmp_path / "model.xml", bfloat16=False)(image) - exact).abs().max().item())
    assert errors[1] < 2e-5
    assert errors[1] < errors[0] / 3
