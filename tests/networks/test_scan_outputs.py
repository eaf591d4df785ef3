"""The outputs for a whole scan: beside the logits, on request only, and as a module of their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from networks import ScanOutputs, TransformerUNet

SMALL = {
    "out_channels": 5,
    "channels": (8, 8, 16),
    "hidden_size": 24,
    "mlp_dim": 48,
    "num_layers": 2,
    "num_heads": 2,
    "position_grid": (3, 4, 3),
}


class Refuse(nn.Module):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the head was computed")


def make_network(num_outputs: int = 3, **options) -> TransformerUNet:
    torch.manual_seed(0)
    return TransformerUNet(num_outputs=num_outputs, **SMALL, **options).eval()


def make_image(*size: int, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("global_pool", ["avg", "avgmax", "max", "map"])
def test_outputs_come_beside_the_same_logits(global_pool):
    plain, network = make_network(0), make_network(global_pool=global_pool)
    assert plain.state_dict().keys() == {name for name in network.state_dict() if not name.startswith("scan_head")}
    network.load_state_dict(plain.state_dict(), strict=False)
    image = make_image(16, 24, 16)
    logits, outputs = network.forward_with_outputs(image)
    assert torch.equal(logits, network(image))
    torch.testing.assert_close(logits, plain(image), atol=1e-6, rtol=0)
    assert outputs.shape == (2, 3)
    outputs.sum().backward()
    assert network.scan_head.linear.weight.grad.abs().max() > 0
    assert network.stem1[0].weight.grad.abs().max() > 0, "the outputs train the encoder"


def test_outputs_are_the_head_of_the_last_tokens():
    network, image, seen = make_network(), make_image(16, 24, 16), []
    network.norm.register_forward_hook(lambda _module, _inputs, tokens: seen.append(tokens.flatten(1, 3)))
    outputs = network.forward_with_outputs(image)[1]
    assert seen[0].shape == (2, 2 * 3 * 2, 24)
    assert torch.equal(outputs, network.scan_head(seen[0]))


def test_forward_is_the_logits_alone_and_computes_no_head():
    network, image = make_network(), make_image(16, 16, 16)
    assert "scan_head" not in str(torch.jit.script(network).inlined_graph)
    network.scan_head = Refuse()
    logits = network(image)
    assert type(logits) is torch.Tensor
    assert logits.shape == (2, 5, 16, 16, 16)
    with pytest.raises(AssertionError, match="the head was computed"):
        network.forward_with_outputs(image)


def test_network_without_outputs_is_refused():
    network, message = make_network(0), "num_outputs of at least 1, got 0"
    with pytest.raises(ValueError, match=message):
        network.forward_with_outputs(make_image(8, 8, 8))
    with pytest.raises(torch.jit.Error, match=message):
        torch.jit.script(network).forward_with_outputs(make_image(8, 8, 8))
    with pytest.raises(ValueError, match=message):
        ScanOutputs(network)


def test_module_and_its_script_give_the_pair_with_the_networks_own_weights():
    network, image = make_network(), make_image(17, 24, 30)
    module = ScanOutputs(network)
    assert list(module.state_dict()) == [f"network.{name}" for name in network.state_dict()]
    expected = network.forward_with_outputs(image)
    torch.testing.assert_close(module(image), expected, atol=0, rtol=0)
    torch.testing.assert_close(torch.jit.script(module)(image), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 2, 16, 16, 16), (1, 16, 16, 16)])
def test_wrong_input_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(B, 1, D, H, W\)"):
        ScanOutputs(make_network())(torch.zeros(shape))


@pytest.mark.slow
def test_exports_with_dynamic_batch_and_sizes():
    module = ScanOutputs(make_network())
    dims = dict.fromkeys((0, 2, 3, 4), torch.export.Dim.AUTO)
    program = torch.export.export(module, (make_image(40, 48, 56),), dynamic_shapes=(dims,)).module()
    for size in ((56, 40, 48), (41, 60, 64)):  # whole tokens, and padded
        image = make_image(*size, batch=3)
        torch.testing.assert_close(program(image), module(image), atol=1e-5, rtol=0)
