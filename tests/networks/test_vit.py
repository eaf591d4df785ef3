"""ViT: MONAI's checkpoints, sizes, forms and arguments; ``test_vit_head.py`` exchanges its head."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from monai.networks.nets.vit import ViT as MonaiViT
from scipy.ndimage import map_coordinates

from networks import separate_qkv
from networks.pooling import GLOBAL_POOLS
from tests.networks.small_vit import BAD_HEADS, FORMS, IMAGE, PATCH, SMALL, make_image, make_vit, scramble

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # of MONAI's sincos


def make_monai(dims: int = 2, img_size: tuple[int, ...] | None = None, **options) -> MonaiViT:
    torch.manual_seed(3)
    sizes = {"img_size": img_size or IMAGE[dims], "patch_size": PATCH[dims], "spatial_dims": dims}
    return MonaiViT(**{**SMALL, **sizes, **options}).eval()


HEADS_OF_MONAI = {
    "tokens": {"classification": False},
    "tanh": {"classification": True, "num_classes": 3},
    "linear": {"classification": True, "num_classes": 3, "post_activation": False},
}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("proj_type", ["conv", "perceptron"])
@pytest.mark.parametrize("pos_embed_type", ["learnable", "sincos", "fourier", "none"])
@pytest.mark.parametrize(("head", "qkv_bias"), [("tokens", False), ("tanh", True), ("linear", False)])
def test_equals_monai_with_its_own_checkpoint(dims, proj_type, pos_embed_type, head, qkv_bias):
    common = {"proj_type": proj_type, "pos_embed_type": pos_embed_type, "qkv_bias": qkv_bias}
    theirs = scramble(make_monai(dims, **common, **HEADS_OF_MONAI[head]))
    ours = make_vit(dims, **common, **HEADS_OF_MONAI[head])
    ours.load_state_dict(theirs.state_dict(), strict=True)
    image = make_image(*IMAGE[dims])
    expected, hidden = theirs(image)
    torch.testing.assert_close(ours(image), expected, atol=1e-5, rtol=0)
    tokens, intermediates = ours.forward_intermediates(image)
    assert len(intermediates) == len(hidden) == 2
    for got, wanted in zip(intermediates, hidden, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens, theirs.norm(hidden[-1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dims", "size"), [(2, (24, 10)), (2, (4, 35)), (3, (16, 4, 15))])
def test_other_sizes_equal_monai_built_for_them_with_resampled_positions(dims, size):
    network = scramble(make_vit(dims, num_classes=0, global_pool=""))
    known_size, grid = ([n // p for n, p in zip(s, PATCH[dims], strict=True)] for s in (IMAGE[dims], size))
    state = network.state_dict()
    known = state["patch_embedding.position_embeddings"].numpy()[0].T.reshape(-1, *known_size)
    points = np.meshgrid(
        *[(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(grid, known_size, strict=True)], indexing="ij"
    )
    resampled = np.stack([map_coordinates(channel, points, order=1, mode="nearest").ravel() for channel in known], -1)
    state["patch_embedding.position_embeddings"] = torch.from_numpy(resampled)[None]
    theirs = make_monai(dims, img_size=size)
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all("norm_cross_attn" in name for name in missing)  # which MONAI never calls
    torch.testing.assert_close(network(make_image(*size)), theirs(make_image(*size))[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("global_pool", ["", "avg", "token", "map"])
@pytest.mark.parametrize("size", [(13, 19), (1, 1), (12, 21)])
def test_sizes_that_patches_do_not_fill_are_padded_with_zeros(global_pool, size):
    network, image = make_vit(global_pool=global_pool), make_image(*size)
    padded = torch.zeros(2, 1, -(-size[0] // 4) * 4, -(-size[1] // 5) * 5)
    padded[..., : size[0], : size[1]] = image
    torch.testing.assert_close(network(image), network(padded), atol=0, rtol=0)


@pytest.mark.parametrize("global_pool", ["", "token", "map"])
@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "qkv_bias": True}, {"save_attn": True}], ids=str)
def test_flags_never_change_the_result(global_pool, options):
    expected = make_vit(global_pool=global_pool, **options)(make_image(12, 20))
    for combined, flash in FORMS:
        flags = {"use_combined_linear": combined, "use_flash_attention": flash}
        network = make_vit(global_pool=global_pool, **flags, **options)
        torch.testing.assert_close(network(make_image(12, 20)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("combined", [True, False])
def test_checkpoint_of_the_other_layout_loads(combined):
    options = {"global_pool": "map", "qkv_bias": True}
    source = scramble(make_vit(use_combined_linear=combined, seed=1, **options))
    target = make_vit(use_combined_linear=not combined, seed=2, **options)
    target.load_state_dict(source.state_dict(), strict=True)
    torch.testing.assert_close(target(make_image(12, 20)), source(make_image(12, 20)), atol=1e-5, rtol=0)


def test_model_without_positions_loads_zeros_only():
    network = make_vit(pos_embed_type="none", num_classes=0, global_pool="")
    assert all("position" not in name for name in network.state_dict())
    network.load_state_dict(make_monai(pos_embed_type="none").state_dict(), strict=True)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"patch_embedding\.position_embeddings"'):
        network.load_state_dict(make_monai(pos_embed_type="learnable").state_dict(), strict=True)


@pytest.mark.parametrize("global_pool", ["avg", "token", "map"])
def test_float64_gradients_of_all_forms_are_equal(global_pool):
    gradients = []
    for combined, flash in FORMS:
        network = make_vit(global_pool=global_pool, use_combined_linear=combined, use_flash_attention=flash).double()
        image = make_image(12, 20).double().requires_grad_()
        network(image).square().sum().backward()
        gradients.append({"image": image.grad, **separate_qkv({n: p.grad for n, p in network.named_parameters()})})
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    ("global_pool", "options"), [(p, {}) for p in GLOBAL_POOLS] + [("token", {"qk_norm": True, "qkv_bias": True})]
)
def test_every_parameter_gets_a_gradient(global_pool, options):
    network = scramble(make_vit(global_pool=global_pool, classification=True, **options)).train()
    network(make_image(12, 20)).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert without == []


@pytest.mark.parametrize(
    ("dims", "global_pool", "proj_type", "combined", "flash"),
    [
        (2, "token", "conv", True, True),
        (2, "", "perceptron", False, True),
        (3, "map", "conv", True, False),
        (3, "avg", "perceptron", False, False),
    ],
)
def test_scripts_saves_loads_and_agrees_on_two_sizes(dims, global_pool, proj_type, combined, flash):
    flags = {"use_combined_linear": combined, "use_flash_attention": flash}
    network = make_vit(dims, global_pool=global_pool, proj_type=proj_type, **flags)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(network), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for size in (IMAGE[dims], (17, 9, 10)[:dims]):
        torch.testing.assert_close(loaded(make_image(*size)), network(make_image(*size)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dims", "global_pool"), [pytest.param(2, "token", marks=pytest.mark.slow), (3, "map")])
def test_exports_with_dynamic_batch_and_sizes(dims, global_pool):
    network = make_vit(dims, global_pool=global_pool, num_layers=1)
    dynamic = {0: torch.export.Dim.AUTO, **{2 + axis: torch.export.Dim.AUTO for axis in range(dims)}}
    program = torch.export.export(network, (make_image(*IMAGE[dims]),), dynamic_shapes=(dynamic,))
    for batch, size in ((3, (20, 15, 9)[:dims]), (2, (15, 23, 7)[:dims])):
        image = make_image(*size, batch=batch)
        torch.testing.assert_close(program.module()(image), network(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({"num_classes": n, "global_pool": pool, "class_token": False}, text) for n, pool, text in BAD_HEADS],
        ({"post_activation": "ReLU"}, "post_activation must be 'Tanh', 'none', False or None, got 'ReLU'"),
        ({"hidden_size": 25}, "divisible by num_heads 2"),
        ({"dropout_rate": -0.1}, "dropout"),
        ({"patch_size": 21}, "at most img_size"),
        ({"pos_embed_type": "rope"}, "pos_embed_type"),
        ({"proj_type": "linear"}, "proj_type"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_vit(**options)


def test_wrong_image_is_refused():
    for shape in ((1, 2, 12, 20), (1, 1, 8, 6, 12)):
        with pytest.raises(ValueError, match=r"\(B, 1, 2 axes\)"):
            make_vit()(torch.zeros(shape))
