"""PatchEmbeddingBlock against MONAI's block, scipy's resampling and patches cut by hand."""

from __future__ import annotations

import io
from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from monai.networks.blocks.patchembedding import PatchEmbeddingBlock as MonaiPatchEmbeddingBlock
from scipy.ndimage import map_coordinates

from networks.patch_embedding import PROJECTIONS, PatchEmbeddingBlock

HIDDEN, CHANNELS = 12, 2
IMAGE, PATCH = {2: (12, 20), 3: (8, 6, 12)}, {2: (4, 5), 3: (4, 2, 3)}
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # of MONAI's sincos


def make_embedding(dims: int = 3, **options) -> PatchEmbeddingBlock:
    torch.manual_seed(0)
    options = {"img_size": IMAGE[dims], "patch_size": PATCH[dims], "spatial_dims": dims, **options}
    return PatchEmbeddingBlock(CHANNELS, hidden_size=HIDDEN, **{"num_heads": 1, **options}).eval()


def make_image(*size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, CHANNELS, *size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def only_positions(embedding: PatchEmbeddingBlock, *size: int) -> np.ndarray:
    """Return the tokens (C, N) of an image of zeros when nothing but positions can be in them."""
    for parameter in embedding.patch_embeddings.parameters():
        parameter.zero_()
    return embedding(torch.zeros(1, CHANNELS, *size))[0].T.numpy()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("proj_type", PROJECTIONS)
@pytest.mark.parametrize("pos_embed_type", ["none", "learnable", "sincos", "fourier"])
def test_equals_monai_with_its_own_checkpoint(dims, proj_type, pos_embed_type):
    options = {"proj_type": proj_type, "pos_embed_type": pos_embed_type, "spatial_dims": dims}
    theirs = MonaiPatchEmbeddingBlock(CHANNELS, IMAGE[dims], PATCH[dims], HIDDEN, num_heads=1, **options).eval()
    ours = make_embedding(dims, proj_type=proj_type, pos_embed_type=pos_embed_type)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    image = make_image(*IMAGE[dims])
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("proj_type", PROJECTIONS)
def test_token_is_the_projection_of_its_patch(proj_type):
    embedding, image = make_embedding(proj_type=proj_type, pos_embed_type="none").double(), make_image(8, 4, 6).double()
    if proj_type == "conv":
        weight, bias = embedding.patch_embeddings.weight.flatten(1), embedding.patch_embeddings.bias
    else:
        weight, bias = embedding.patch_embeddings[1].weight, embedding.patch_embeddings[1].bias
    tokens = embedding(image)
    assert tokens.shape == (2, 8, HIDDEN)
    for index, (d, h, w) in enumerate(product(range(2), repeat=3)):
        patch = image[:, :, 4 * d : 4 * d + 4, 2 * h : 2 * h + 2, 3 * w : 3 * w + 3]
        row = patch.flatten(1) if proj_type == "conv" else patch.movedim(1, -1).flatten(1)  # channels fastest
        torch.testing.assert_close(tokens[:, index], row @ weight.T + bias, atol=1e-12, rtol=0)


@pytest.mark.parametrize("pos_embed_type", ["learnable", "sincos", "fourier"])
@pytest.mark.parametrize(
    ("dims", "size"), [(2, (12, 20)), (2, (28, 15)), (2, (3, 41)), (3, (8, 6, 12)), (3, (20, 4, 21)), (3, (5, 13, 1))]
)
def test_positions_are_resampled_linearly(pos_embed_type, dims, size):
    embedding = make_embedding(dims, pos_embed_type=pos_embed_type)
    known_size = [n // p for n, p in zip(IMAGE[dims], PATCH[dims], strict=True)]
    grid = [-(-n // p) for n, p in zip(size, PATCH[dims], strict=True)]
    known = embedding.position_embeddings.detach().numpy()[0].T.reshape(HIDDEN, *known_size)
    centres = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(grid, known_size, strict=True)]
    points = np.meshgrid(*centres, indexing="ij")
    expected = [map_coordinates(channel, points, order=1, mode="nearest").ravel() for channel in known]
    np.testing.assert_allclose(only_positions(embedding, *size), expected, atol=1e-6)


def test_positions_of_the_built_size_are_untouched():
    embedding = make_embedding()
    assert torch.equal(embedding.positions(embedding.grid_size), embedding.position_embeddings)


@pytest.mark.parametrize("proj_type", PROJECTIONS)
@pytest.mark.parametrize("size", [(9, 6, 13), (1, 1, 1), (7, 5, 12)])
def test_other_sizes_are_padded_with_zeros_at_the_end(proj_type, size):
    embedding, image = make_embedding(proj_type=proj_type), make_image(*size)
    whole = [-(-n // p) * p for n, p in zip(size, PATCH[3], strict=True)]
    padded = torch.zeros(2, CHANNELS, *whole)
    padded[:, :, : size[0], : size[1], : size[2]] = image
    tokens = embedding(image)
    assert tokens.shape == (2, prod(n // p for n, p in zip(whole, PATCH[3], strict=True)), HIDDEN)
    assert torch.equal(tokens, embedding(padded))


def test_image_size_that_patches_do_not_fill_counts_whole_patches():
    theirs = MonaiPatchEmbeddingBlock(CHANNELS, (11, 7, 14), PATCH[3], HIDDEN, num_heads=1)
    ours = make_embedding(img_size=(11, 7, 14))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert ours(make_image(11, 7, 14)).shape == (2, 3 * 4 * 5, HIDDEN)


def test_no_positions_means_no_parameter():
    embedding = make_embedding(pos_embed_type="none")
    assert all("position" not in name for name, _ in embedding.named_parameters())
    assert not only_positions(embedding, 8, 6, 12).any()


def test_trained_positions_are_refused_where_there_are_none():
    state = make_embedding(pos_embed_type="learnable").state_dict()
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"position_embeddings"'):
        make_embedding(pos_embed_type="none").load_state_dict(state)
    assert "position_embeddings" in state


@pytest.mark.parametrize(("pos_embed_type", "trains"), [("learnable", True), ("sincos", False), ("fourier", False)])
def test_only_learnable_positions_are_trained(pos_embed_type, trains):
    embedding = make_embedding(pos_embed_type=pos_embed_type)
    embedding(make_image(12, 6, 13)).square().mean().backward()
    assert (embedding.position_embeddings.grad is not None) is trains


def test_dropout_acts_in_training_only():
    embedding, image = make_embedding(dropout_rate=0.5), make_image(8, 6, 12)
    assert torch.equal(embedding(image), make_embedding()(image))
    dropped = (embedding.train()(image) == 0).float().mean()
    assert 0.3 < dropped < 0.7


@pytest.mark.parametrize(("dims", "proj_type"), list(product((2, 3), PROJECTIONS)))
def test_scripts_saves_loads_and_agrees_on_other_sizes(dims, proj_type):
    embedding, buffer = make_embedding(dims, proj_type=proj_type), io.BytesIO()
    torch.jit.save(torch.jit.script(embedding), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for size in (IMAGE[dims], (13, 9, 10)[:dims]):
        torch.testing.assert_close(loaded(make_image(*size)), embedding(make_image(*size)), atol=1e-6, rtol=0)


def test_builds_without_memory_on_the_meta_device():
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in make_embedding(proj_type="perceptron").state_dict().items()}
    expected = make_embedding(proj_type="perceptron").state_dict()
    assert shapes == {name: value.shape for name, value in expected.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_dims": 1, "img_size": 8, "patch_size": 4}, "spatial_dims must be 2 or 3, got 1"),
        ({"proj_type": "linear"}, "proj_type must be one of conv, perceptron, got 'linear'"),
        ({"pos_embed_type": "rotary"}, "one of none, learnable, sincos, fourier, got 'rotary'"),
        ({"patch_size": (4, 7, 3)}, r"patch_size \[4, 7, 3\] must be at least 1 and at most img_size \[8, 6, 12\]"),
        ({"patch_size": 0}, r"patch_size \[0, 0, 0\] must be at least 1"),
        ({"patch_size": (4, 2)}, "length 3"),
        ({"dropout_rate": 1.5}, "got 1.5"),
        ({"num_heads": 5}, "hidden_size 12 must be divisible by num_heads 5"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_embedding(**options)


@pytest.mark.parametrize(("dims", "hidden_size", "parts"), [(2, 10, 4), (3, 8, 6)])
def test_sincos_needs_a_sine_and_a_cosine_for_each_axis(dims, hidden_size, parts):
    with pytest.raises(ValueError, match=f"divisible by {parts}, got {hidden_size}"):
        PatchEmbeddingBlock(1, 8, 4, hidden_size, 1, pos_embed_type="sincos", spatial_dims=dims)


@pytest.mark.parametrize("shape", [(1, 3, 8, 6, 12), (1, CHANNELS, 8, 6), (CHANNELS, 8, 6, 12)])
def test_wrong_image_is_refused(shape):
    with pytest.raises(ValueError, match=rf"\(B, {CHANNELS}, 3 axes\)"):
        make_embedding()(torch.zeros(shape))
