"""UNETR: MONAI's checkpoints, forms, depths, patch sizes and images of any size."""

from __future__ import annotations

import io
from itertools import product

import pytest
import torch
from monai.networks.nets.unetr import UNETR as MonaiUNETR
from torch import nn

from networks import UNETR

COMMON = {"in_channels": 1, "out_channels": 3, "feature_size": 4, "hidden_size": 24, "mlp_dim": 40, "num_heads": 2}
PATCH_SIZES = [(4, 2), (8, 3), (16, 5), (32, 6)]  # with a number of layers


def make_unetr(seed: int = 0, **options) -> UNETR:
    """Return a small network, 2D unless said."""
    torch.manual_seed(seed)
    sizes = {"img_size": 32, "patch_size": 8, "num_layers": 3, "spatial_dims": 2}
    return UNETR(**{**COMMON, **sizes, **options}).eval()


@torch.no_grad()
def make_monai(**options) -> MonaiUNETR:
    """Return MONAI's network with every parameter and statistic off its initial value."""
    torch.manual_seed(3)
    network = MonaiUNETR(**{**COMMON, **options}).eval()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(0.05 * torch.rand_like(value))
    return network


def make_image(*size: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((48, 32, 32), {}),
        ((32, 32, 32), {"conv_block": False, "res_block": False, "proj_type": "perceptron"}),
        ((32, 48), {}),
        ((32, 48), {"conv_block": False}),
        ((32, 48), {"res_block": False, "qkv_bias": True}),
        ((32, 48), {"conv_block": False, "res_block": False}),
        ((32, 48), {"proj_type": "perceptron"}),
        ((32, 48), {"norm_name": "batch"}),
        ((32, 48), {"norm_name": ("group", {"num_groups": 2})}),
        ((32, 48), {"norm_name": ("instance", {"affine": True})}),
    ],
    ids=str,
)
def test_equals_monai_with_its_own_checkpoint(size, options):
    options = {**options, "img_size": size, "spatial_dims": len(size)}
    theirs, ours = make_monai(**options), make_unetr(patch_size=16, num_layers=12, **options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    image = make_image(*size, batch=2)
    expected = theirs(image)
    scale = float(expected.std())
    assert scale > 0.1, "logits must be large enough for the tolerance to mean something"
    # Batch norm with foreign statistics does not keep activations near 1, and float32 rounds what is larger coarser.
    torch.testing.assert_close(ours(image), expected, atol=1e-5 * max(1.0, scale), rtol=0)


@pytest.mark.parametrize(("combined", "flash"), list(product((True, False), repeat=2)))
def test_every_form_loads_monai_checkpoint(combined, flash):
    options = {"img_size": (32, 48), "spatial_dims": 2, "qkv_bias": True}
    theirs = make_monai(**options)
    flags = {"use_combined_linear": combined, "use_flash_attention": flash}
    ours = make_unetr(patch_size=16, num_layers=12, **options, **flags)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(ours(make_image(32, 48)), theirs(make_image(32, 48)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"save_attn": True}], ids=str)
def test_flags_never_change_the_result(options):
    expected = make_unetr(**options)(make_image(32, 24))
    for combined, flash in product((True, False), repeat=2):
        network = make_unetr(use_combined_linear=combined, use_flash_attention=flash, **options)
        attention = network.vit.blocks[0].attn
        assert (attention.use_combined_linear, attention.use_flash_attention) == (combined, flash)
        assert any("q_norm" in name for name in network.state_dict()) is options.get("qk_norm", False)
        assert attention.save_attn is options.get("save_attn", False)
        torch.testing.assert_close(network(make_image(32, 24)), expected, atol=1e-5, rtol=0)


def test_float64_gradients_of_both_kernels_are_equal():
    gradients = []
    for flash in (True, False):
        network = make_unetr(use_flash_attention=flash).double()
        network(make_image(24, 32).double()).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    ("patch_size", "num_layers", "skips"),
    [(16, 12, [0, 3, 6, 9]), (8, 3, [0, 1, 2]), (4, 9, [0, 4]), (32, 12, [0, 2, 4, 7, 9]), (16, 4, [0, 1, 2, 3])],
)
def test_skips_divide_the_depth_evenly(patch_size, num_layers, skips):
    """The first entry is not used: stage 1 sees the image itself."""
    assert make_unetr(patch_size=patch_size, num_layers=num_layers).skips == skips


@pytest.mark.parametrize(("patch_size", "num_layers"), PATCH_SIZES)
def test_each_stage_merges_its_own_skip(patch_size, num_layers):
    network, image = make_unetr(patch_size=patch_size, num_layers=num_layers), make_image(64, 96, batch=2)
    tokens, hidden = network.vit.forward_intermediates(image)

    def to_map(x: torch.Tensor) -> torch.Tensor:
        return x.mT.reshape(2, COMMON["hidden_size"], 64 // patch_size, 96 // patch_size)

    out, stages = to_map(tokens), len(network.skips)
    for stage in range(stages, 1, -1):
        skip = hidden[(stage - 1) * num_layers // stages]
        out = network.get_submodule(f"decoder{stage + 1}")(out, network.get_submodule(f"encoder{stage}")(to_map(skip)))
    expected = network.out(network.decoder2(out, network.encoder1(image)))
    torch.testing.assert_close(network(image), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("patch_size", "num_layers"), PATCH_SIZES)
@pytest.mark.parametrize("size", [(33, 47), (50, 32), (5, 9), (64, 64)])
def test_logits_have_the_input_size_and_equal_zero_padding_cropped(patch_size, num_layers, size):
    network, image = make_unetr(patch_size=patch_size, num_layers=num_layers), make_image(*size, batch=2)
    padded = torch.zeros(2, 1, *(-(-n // patch_size) * patch_size for n in size))
    padded[..., : size[0], : size[1]] = image
    logits = network(image)
    assert logits.shape == (2, 3, *size)
    torch.testing.assert_close(logits, network(padded)[..., : size[0], : size[1]], atol=1e-6, rtol=0)


def test_odd_volume_equals_zero_padding_cropped():
    network, image = make_unetr(spatial_dims=3, patch_size=16, num_layers=4), make_image(33, 47, 50)
    padded = torch.zeros(1, 1, 48, 48, 64)
    padded[..., :33, :47, :50] = image
    with torch.inference_mode():
        torch.testing.assert_close(network(image), network(padded)[..., :33, :47, :50], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("patch_size", "num_layers", "combined", "flash"),
    [
        (4, 2, True, True),
        (8, 3, False, True),
        (16, 4, True, False),
        pytest.param(32, 5, False, False, marks=pytest.mark.slow),
    ],
)
def test_scripts_saves_loads_and_agrees_on_two_sizes(patch_size, num_layers, combined, flash):
    options = {"use_combined_linear": combined, "use_flash_attention": flash}
    network, buffer = make_unetr(patch_size=patch_size, num_layers=num_layers, **options), io.BytesIO()
    torch.jit.save(torch.jit.script(network), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for size in ((32, 64), (33, 50)):
        torch.testing.assert_close(loaded(make_image(*size)), network(make_image(*size)), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("dims", "patch_size"), [(2, 8), (3, 4)])
def test_exports_with_dynamic_batch_and_sizes(dims, patch_size):
    network = make_unetr(spatial_dims=dims, img_size=16, patch_size=patch_size)
    # The example has a batch of 2: instance norm folds the batch into its channels, which would bind a batch of 1.
    dynamic = {0: torch.export.Dim.AUTO, **{2 + axis: torch.export.Dim.AUTO for axis in range(dims)}}
    example = make_image(*(16, 24, 16)[:dims], batch=2)
    program = torch.export.export(network, (example,), dynamic_shapes=(dynamic,))
    for batch, size in ((2, (33, 18, 16)), (3, (24, 31, 17))):
        image = make_image(*size[:dims], batch=batch)
        torch.testing.assert_close(program.module()(image), network(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("patch_size", "num_layers"), [(4, 2), (8, 3), (16, 4), (32, 5)])
def test_all_of_the_image_and_every_parameter_that_is_used_get_a_gradient(patch_size, num_layers):
    network = make_unetr(patch_size=patch_size, num_layers=num_layers, norm_name="batch").train()
    image = make_image(64, 64, batch=2).requires_grad_()
    network(image).square().mean().backward()
    assert (image.grad != 0).all()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert without == []


def test_decoder_has_no_more_stages_than_the_patch_needs():
    for patch_size, (num_layers, stages) in {4: (2, 2), 8: (3, 3), 16: (4, 4), 32: (5, 5)}.items():
        network = make_unetr(patch_size=patch_size, num_layers=num_layers)
        made = {
            int(n[7:]) for n, m in network.named_children() if n[:7] == "decoder" and not isinstance(m, nn.Identity)
        }
        assert made == set(range(2, stages + 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 12}, "patch_size must be one of 4, 8, 16, 32 along every axis, got 12"),
        ({"patch_size": 16, "num_layers": 3}, "patch_size 16 needs at least 4 blocks, got num_layers 3"),
        ({"hidden_size": 25}, "divisible by num_heads 2"),
        ({"dropout_rate": 2.0}, "dropout"),
        ({"proj_type": "linear"}, "proj_type must be one of conv, perceptron"),
        ({"img_size": 4}, r"patch_size \[8, 8\] must be at least 1 and at most img_size \[4, 4\]"),
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_unetr(**options)


@pytest.mark.parametrize("shape", [(1, 2, 32, 32), (1, 1, 32, 32, 32), (1, 32, 32)])
def test_wrong_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(B, 1, 2 axes\)"):
        make_unetr()(torch.zeros(shape))
