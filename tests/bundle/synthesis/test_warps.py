"""Warps between anatomies: registration, the way between, and how a training takes them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.errors import InputError
from bundle.labels import read_labels
from bundle.synthesis import SyntheticBrainDataset, find_label_maps
from bundle.synthesis.anatomy import load_label_maps
from bundle.synthesis.deformation import Warp
from bundle.synthesis.draws import Draws
from bundle.synthesis.warps import STEP, Warps, between, register, tissue_shares, write_warps
from tests.bundle.synthesis.still import STILL
from tests.phantom import SPACING, phantom_codes, write_phantoms


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """The phantom, and one whose ventricles are twice as wide."""
    folder = write_phantoms(tmp_path_factory.mktemp("maps"), 1)
    codes = phantom_codes()
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in codes.shape), indexing="ij"))
    ball = np.sqrt((np.abs(grid[0]) - 0.2) ** 2 + (grid[1] - 0.15) ** 2 + grid[2] ** 2) < 0.18
    codes[ball & (grid[0] < 0)], codes[ball & (grid[0] >= 0)] = 4, 43
    nib.Nifti1Image(codes, np.diag([SPACING] * 3 + [1.0])).to_filename(folder / "wide.nii.gz")
    return find_label_maps(folder)


@pytest.fixture(scope="module")
def warps(maps, tmp_path_factory):
    path = tmp_path_factory.mktemp("warps") / "warps.pt"
    write_warps(*load_label_maps(maps, read_labels()), path)
    return path


def test_registration_finds_the_other_shape(maps):
    anatomies, table = load_label_maps(maps, read_labels())
    fixed, moving = (tissue_shares(anatomy, table) for anatomy in anatomies)
    field = register(fixed, moving)
    grid = torch.stack(
        torch.meshgrid(*[(torch.arange(n) - (n - 1) / 2) * STEP for n in field.shape[1:]], indexing="ij")
    )
    moved = torch.stack([Warp(share[None].repeat(3, 1, 1, 1), STEP).at(grid + field)[0] for share in moving])
    ventricles = 2
    before, after = ((other[ventricles] - fixed[ventricles]).square().sum() for other in (moving, moved))
    assert after < 0.4 * before
    assert min(float((grid + field).diff(dim=axis + 1)[axis].min()) for axis in range(3)) > 0, "nothing folds"


def volume(dataset, share, name="phantom_1.nii.gz"):
    own, other = (dataset.warps.fields[key].float() for key in (name, "wide.nii.gz"))
    anatomy = next(label_map for label_map in dataset.maps if label_map.name == name)
    window = (64, 72, 64)
    label = dataset.synthesise(anatomy, window, SPACING, Draws(0), between(own, other, share))[1]
    return int(((label == 3) | (label == 21)).sum())


@pytest.mark.slow
def test_shapes_lie_between_and_beyond(maps, warps):
    dataset = SyntheticBrainDataset(maps, SPACING, ((192, 216, 192),) * 2, 4, options=STILL, warps=warps)
    own, half, whole, beyond = (volume(dataset, share) for share in (0.0, 0.5, 1.0, 1.3))
    target = volume(dataset, 0.0, "wide.nii.gz")
    assert own < half < whole < beyond
    assert own + 0.5 * (target - own) < whole < 1.3 * target


def test_no_way_at_all_changes_nothing(maps, warps):
    found = Warps(warps, ["phantom_1.nii.gz", "wide.nii.gz"]).fields["wide.nii.gz"].float()
    inner = between(found, found * 0, 0.0).field[:, 6:-6, 6:-6, 6:-6]
    assert inner.abs().max() < 0.5  # mm


def test_a_training_draws_them_by_probability_and_refuses_what_is_missing(maps, warps, tmp_path):
    arguments = (maps, 6.0, ((96,) * 3,) * 2, 4, 0)
    plain = SyntheticBrainDataset(*arguments, options={**STILL})[1]["label"]
    always = SyntheticBrainDataset(*arguments, options={**STILL, "warp": 1.0}, warps=warps)
    assert not torch.equal(always[1]["label"], plain)
    assert Warps(warps, ["phantom_1.nii.gz", "wide.nii.gz", "other.nii.gz"]).draw("other.nii.gz", Draws(0)) is None
    with pytest.raises(InputError, match="found warps of 1 of the label maps"):
        Warps(warps, ["wide.nii.gz", "other.nii.gz"])
    torch.save({"a": torch.zeros(2)}, tmp_path / "no.pt")
    with pytest.raises(InputError, match="found no warps"):
        Warps(tmp_path / "no.pt", ["a"])
