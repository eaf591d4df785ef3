"""TransformerUNet: sizes, flags, checkpoints, scripting and export."""

from __future__ import annotations

import io
from itertools import product

import pytest
import torch

from networks import TransformerUNet

SMALL = {
    "out_channels": 5,
    "channels": (8, 8, 16),
    "hidden_size": 24,
    "mlp_dim": 48,
    "num_layers": 2,
    "num_heads": 2,
    "position_grid": (3, 4, 3),
}


def make_network(seed: int = 0, **options) -> TransformerUNet:
    torch.manual_seed(seed)
    return TransformerUNet(**{**SMALL, **options}).eval()


def make_image(*size: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(16, 24, 32), (17, 23, 30), (8, 8, 8), (1, 9, 40)])
def test_logits_have_the_input_size(size):
    assert make_network()(make_image(*size, batch=2)).shape == (2, 5, *size)


def test_padding_is_zero_padding_cropped_back():
    network, image = make_network(), make_image(13, 16, 11)
    padded = torch.nn.functional.pad(image, [0, 5, 0, 0, 0, 3])
    torch.testing.assert_close(network(image), network(padded)[:, :, :13, :, :11])


def test_flags_never_change_the_result():
    image = make_image(24, 16, 20)
    expected = make_network()(image)
    for combined, flash in product((True, False), repeat=2):
        network = make_network(use_combined_linear=combined, use_flash_attention=flash)
        torch.testing.assert_close(network(image), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("combined", [True, False])
def test_checkpoint_of_the_other_layout_loads(combined):
    image = make_image(16, 16, 16)
    source, target = make_network(1, use_combined_linear=combined), make_network(2, use_combined_linear=not combined)
    target.load_state_dict(source.state_dict(), strict=True)
    torch.testing.assert_close(target(image), source(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("combined", "flash"), list(product((True, False), repeat=2)))
def test_scripted_network_agrees_on_two_sizes(combined, flash):
    network = make_network(use_combined_linear=combined, use_flash_attention=flash)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(network), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for size in ((16, 24, 16), (30, 17, 25)):
        torch.testing.assert_close(loaded(make_image(*size)), network(make_image(*size)), atol=1e-5, rtol=0)


def test_exports_with_dynamic_sizes():
    network = make_network()
    dims = dict.fromkeys((2, 3, 4), torch.export.Dim.AUTO)
    program = torch.export.export(network, (make_image(24, 32, 40),), dynamic_shapes=({0: None, 1: None, **dims},))
    image = make_image(32, 16, 48)
    torch.testing.assert_close(program.module()(image), network(image), atol=1e-5, rtol=0)


def test_every_parameter_gets_a_gradient():
    network = make_network().train()
    network(make_image(16, 16, 24)).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert without == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (8, 16)}, r"channels must have 3 entries, got \[8, 16\]"),
        ({"position_grid": (3,)}, r"position_grid must have 3 entries, got \[3\]"),
        ({"hidden_size": 25}, "divisible by num_heads"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_network(**options)


@pytest.mark.parametrize("shape", [(1, 2, 16, 16, 16), (1, 16, 16, 16)])
def test_wrong_input_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(B, 1, D, H, W\)"):
        make_network()(torch.zeros(shape))
