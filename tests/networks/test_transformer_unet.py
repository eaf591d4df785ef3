"""TransformerUNet: sizes, flags, checkpoints, scripting and export."""

from __future__ import annotations

import io
from itertools import product

import pytest
import torch
from monai.bundle import ConfigParser

from networks import BlockAttention, GlobalLocalAttention, PooledAttention, SpatialAttention, TransformerUNet

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


VARIANTS = [
    {"use_combined_linear": True, "use_flash_attention": False},
    {"use_combined_linear": False, "use_flash_attention": True},
    {"attention": "pooled"},
    {"attention": "block", "block_size": 2},
    {"attention": ["global", "global_local"], "pooled_size": 2, "fusion": "gate"},
    {"spatial_attention": ["bottleneck", "up4"], "qk_norm": True},
    {"num_outputs": 3},
    {"num_outputs": 2, "global_pool": "avgmax", "use_combined_linear": False},
]


def results(network: torch.nn.Module, image: torch.Tensor, options: dict) -> tuple[torch.Tensor, ...]:
    """Return all that a network with these options computes: its logits, and its outputs for the scan."""
    return network.forward_with_outputs(image) if "num_outputs" in options else (network(image),)


@pytest.mark.parametrize("options", [{}, *VARIANTS], ids=str)
def test_scripted_network_agrees_on_two_sizes(options):
    network = make_network(**options)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(network), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for size in ((16, 24, 16), (30, 17, 25)):
        image = make_image(*size)
        torch.testing.assert_close(loaded(image), network(image), atol=1e-5, rtol=0)
        torch.testing.assert_close(results(loaded, image, options), results(network, image, options), atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", VARIANTS[2:], ids=str)
def test_flags_never_change_the_result_of_any_attention(options):
    image, first = make_image(24, 16, 20), make_network(**options)
    expected = results(first, image, options)
    for combined, flash in product((True, False), repeat=2):
        network = make_network(1, **{**options, "use_combined_linear": combined, "use_flash_attention": flash})
        network.load_state_dict(first.state_dict(), strict=True)
        torch.testing.assert_close(results(network, image, options), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{}, *VARIANTS[2:]], ids=str)
def test_bfloat16_autocast_stays_within_five_percent(options):
    network, image = make_network(**options), make_image(24, 16, 20)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(network, image, options)
    for one, other in zip(found, results(network, image, options), strict=True):
        assert (one.float() - other).abs().max() < 0.05 * other.abs().max()


def test_block_attention_takes_the_weights_of_global_attention_and_equals_it_in_one_block():
    network = make_network()
    local = make_network(1, attention="block", block_size=4)
    local.load_state_dict(network.state_dict(), strict=True)
    # The first layer is not shifted: with one layer and one block, both are the same network.
    network, local = make_network(num_layers=1), make_network(1, num_layers=1, attention="block", block_size=4)
    local.load_state_dict(network.state_dict(), strict=True)
    torch.testing.assert_close(local(make_image(32, 24, 16)), network(make_image(32, 24, 16)), atol=1e-5, rtol=0)
    assert not torch.allclose(local(make_image(72, 24, 16)), network(make_image(72, 24, 16)), atol=1e-4)


def test_each_second_local_block_is_shifted():
    network = make_network(num_layers=4, attention=["block", "global", "global_local", "block"], block_size=(4, 2, 6))
    fronts = [network.blocks[0].attn.front, network.blocks[2].attn.local_branch.front, network.blocks[3].attn.front]
    assert fronts == [[0, 0, 0], [2, 1, 3], [0, 0, 0]]


def test_spatial_attention_starts_without_effect():
    plain, network = make_network(), make_network(1, spatial_attention=["bottleneck", "up4", "up2", "up1"])
    missing, unexpected = network.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == []
    assert {name.split(".")[0] for name in missing} == {"attend8", "attend4", "attend2", "attend1"}
    torch.testing.assert_close(network(make_image(16, 16, 8)), plain(make_image(16, 16, 8)), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "pooled"},
        {"attention": "block"},
        {"attention": "global_local", "pooled_size": 2},
        {"spatial_attention": ["up4"]},
    ],
)
def test_config_chooses_the_attention(options):
    config = ConfigParser()
    config.read_config("configs/train.json")
    config.update({f"network_def#{name}": value for name, value in options.items()})
    network = config.get_parsed_content("network_def")
    kinds = {type(module) for module in network.modules()}
    wanted = {
        "pooled": PooledAttention,
        "block": BlockAttention,
        "global_local": GlobalLocalAttention,
        "global": SpatialAttention,
    }
    assert wanted[options.get("attention", "global")] in kinds


@pytest.mark.slow
def test_float32_logits_of_a_large_window_follow_float64():
    torch.manual_seed(0)
    network, image = TransformerUNet(), make_image(96, 96, 48)
    image[:, :, :32] = 0  # air
    with torch.inference_mode():
        single = network(image)
        exact = network.double()(image.double())
    assert (single - exact).abs().max() < 5e-6 * exact.abs().max()


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
        ({"attention": "local"}, "one of global, pooled, block, global_local, got 'local'"),
        ({"attention": ["global"]}, "one name or 2, one for each block"),
        ({"spatial_attention": "up4"}, "a list of bottleneck, up4, up2, up1, got 'up4'"),
        ({"spatial_attention": ["up8"]}, "a list of bottleneck"),
        ({"num_outputs": 2, "global_pool": "token"}, "'avg', 'avgmax', 'max' or 'map', got 'token'"),
        ({"num_outputs": -1}, "num_outputs must be at least 0, got -1"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_network(**options)


@pytest.mark.parametrize("shape", [(1, 2, 16, 16, 16), (1, 16, 16, 16)])
def test_wrong_input_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(B, 1, D, H, W\)"):
        make_network()(torch.zeros(shape))
