"""2D checkpoints of timm for 3D networks, and the way back."""

from __future__ import annotations

import pytest
import torch

from bundle.conversion import convert_checkpoint
from bundle.errors import ConversionError
from tests.bundle.conversion.models import (
    assert_same,
    load,
    make_3d,
    make_timm,
    make_vit,
)


def test_volume_constant_along_depth_has_the_patch_tokens_of_its_slice():
    state = make_timm()
    flat, deep = make_vit(), make_3d()
    load(flat, convert_checkpoint(state, "timm", "bundle", flat))
    notes = []
    load(deep, convert_checkpoint(state, "timm", "bundle", deep, notes=notes))
    assert len(notes) == 2
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens = flat.patch_embedding(image)  # (2, 4 * 4, C)
        volume = deep.patch_embedding(image[:, :, None].expand(-1, -1, 16, -1, -1))  # (2, 2 * 4 * 4, C)
    torch.testing.assert_close(volume, tokens.repeat(1, 2, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_one_channel_gets_the_sum_of_all(dims):
    state = make_timm()
    network = make_vit(in_channels=1) if dims == 2 else make_3d(in_channels=1)
    load(network, convert_checkpoint(state, "timm", "bundle", network))
    grey = torch.randn(2, 1, 32, 32)
    colour = load(make_vit(), convert_checkpoint(state, "timm", "bundle", make_vit()))
    image = grey if dims == 2 else grey[:, :, None].expand(-1, -1, 8, -1, -1)
    with torch.no_grad():
        wanted = colour.patch_embedding.patch_embeddings(grey.expand(-1, 3, -1, -1))
        found = network.patch_embedding.patch_embeddings(image)
    torch.testing.assert_close(found.reshape(wanted.shape), wanted, atol=1e-5, rtol=1e-5)


def test_other_numbers_of_channels_and_patch_sizes_are_misshapen():
    for network in (make_3d(in_channels=2), make_3d(in_channels=4), make_vit(in_channels=2)):
        with pytest.raises(
            ConversionError, match=r"misshapen: patch_embedding\.patch_embeddings\.weight \(24, 3, 8, 8\)"
        ):
            convert_checkpoint(make_timm(), "timm", "bundle", network)


def test_positions_are_resampled_in_the_plane_as_the_network_itself_would():
    state = make_timm()
    flat = make_vit()
    load(flat, convert_checkpoint(state, "timm", "bundle", flat))
    deep = make_3d(img_size=(24, 48, 16))
    converted = convert_checkpoint(state, "timm", "bundle", deep)
    found = converted["patch_embedding.position_embeddings"].unflatten(1, (3, 12))
    with torch.no_grad():
        wanted = flat.patch_embedding.positions([6, 2])
    torch.testing.assert_close(found, wanted[:, None].expand(-1, 3, -1, -1), atol=1e-6, rtol=1e-6)


def test_a_plane_that_is_no_square_is_that_of_the_network():
    state = make_timm(grid=(2, 6))
    deep = make_3d(img_size=(16, 16, 48))
    found = convert_checkpoint(state, "timm", "bundle", deep)["patch_embedding.position_embeddings"]
    assert torch.equal(found, state["pos_embed"][:, 1:].repeat(1, 2, 1))
    with pytest.raises(ConversionError, match="no square"):
        convert_checkpoint(state, "timm", "bundle", make_3d())
    convert_checkpoint(state, "timm", "bundle", make_3d(), grid_size=(2, 6))
    bare = make_timm("avg", class_token=False, grid=(2, 6))
    with pytest.raises(ConversionError, match="12 positions, no square"):
        convert_checkpoint(bare, "timm", "bundle", make_3d(pool="avg"))


def test_the_way_back_from_3d_gives_the_same_tensors():
    state = make_timm(class_token=False, pool="avg")
    deep = make_3d(pool="avg")
    converted = convert_checkpoint(state, "timm", "bundle", deep)
    assert_same(convert_checkpoint(converted, "bundle", "timm", grid_size=deep.patch_embedding.grid_size), state)


def test_3d_that_is_no_inflation_has_no_way_back():
    deep = make_3d()
    grid = deep.patch_embedding.grid_size
    with pytest.raises(ConversionError, match=r"no inflated 2D one.*patch_embeddings\.weight, .*position_embeddings"):
        convert_checkpoint(deep.state_dict(), "bundle", "timm", grid_size=grid)
    inflated = convert_checkpoint(make_timm(), "timm", "bundle", deep)
    for key in ("patch_embedding.patch_embeddings.weight", "patch_embedding.position_embeddings"):
        changed = inflated[key].clone()
        changed.view(-1)[-1] += 1e-3
        with pytest.raises(ConversionError, match=f"along depth {key} differ"):
            convert_checkpoint(inflated | {key: changed}, "bundle", "timm", grid_size=grid)
    for wrong in (None, (4, 4), (3, 4, 4)):
        with pytest.raises(ConversionError, match="32 positions in 3D"):
            convert_checkpoint(inflated, "bundle", "timm", grid_size=wrong)
