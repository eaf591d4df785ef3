"""The portable network computes what the network does, in sums that stay short."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bundle.engines.converted import OpenVinoNetwork
from bundle.forms.openvino import convert_openvino, write_openvino
from bundle.forms.portable import PointwiseProduct, SteppedGroupNorm, SteppedPositionGrid, portable
from networks.position import PositionGrid
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


@pytest.mark.parametrize("points", [(12, 14, 12), (3, 1, 5)])
@pytest.mark.parametrize("size", [(12, 16, 10), (12, 14, 12), (2, 3, 2), (20, 25, 21), (1, 1, 1)])
def test_stepped_position_grid_is_the_position_grid(points, size):
    position = PositionGrid(4, points, init_std=1.0).double()
    stepped = SteppedPositionGrid(position)
    torch.testing.assert_close(stepped(*size), position(*size), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.jit.script(stepped)(*size), position(*size), atol=1e-12, rtol=0)


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


@pytest.mark.parametrize("width", [1, 3])  # of a convolution whose channels come first, and one where they come last
def test_stepped_group_norm_is_why_a_large_window_agrees(width, tmp_path):
    convolution = nn.Conv3d(1, 16, width, padding=width // 2)
    network = nn.Sequential(convolution, nn.GroupNorm(2, 16)).eval().requires_grad_(False)
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


def test_no_operation_of_the_portable_network_is_one_that_openvino_folds_wrongly():
    for network in (tiny_network(), tiny_network(attention="pooled", num_outputs=2)):
        names = {operation.get_type_name() for operation in convert_openvino(portable(network)).get_ops()}
        assert "Interpolate" not in names
