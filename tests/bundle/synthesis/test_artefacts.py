"""What scans show beside anatomy and noise, each against what it is meant to do."""

from __future__ import annotations

import math

import pytest
import torch

from bundle.labels import read_labels
from bundle.synthesis import SyntheticBrainDataset, find_label_maps
from bundle.synthesis.anatomy import ClassTable
from bundle.synthesis.artefacts import LOW_FIELD, add_ghosts, brighten, coil_field, low_field
from bundle.synthesis.draws import Draws
from bundle.synthesis.options import SynthesisOptions
from bundle.synthesis.priors import TissuePriors
from tests.phantom import write_phantoms


@pytest.fixture(scope="module")
def tissues():
    table = ClassTable.from_codes([2, 3, 24, 136, 502, 511, 514, 515], read_labels())
    return table, TissuePriors.t1(table)


def mean_of(code, means, tissues):
    table, priors = tissues
    return float(means[priors.tissue_of_class[table.codes.index(code)]])


def test_bright_scalp_is_up_to_so_many_times_white_matter(tissues):
    table, priors = tissues
    options = SynthesisOptions(bright_scalp=1.0, scalp_gain=3.0)
    ratios = []
    for seed in range(30):
        means = brighten(priors.mean.clone(), priors.tissue_of_class, table, Draws(seed), options)
        ratios.append(mean_of(511, means, tissues) / mean_of(2, means, tissues))
        assert mean_of(3, means, tissues) == mean_of(3, priors.mean, tissues)
    assert 1.0 <= min(ratios) < 1.3
    assert 2.6 < max(ratios) <= 3.0


def test_contrast_agent_brightens_vessels_and_choroid_plexus_and_no_tissue(tissues):
    table, priors = tissues
    options = SynthesisOptions(contrast_agent=1.0)
    means = brighten(priors.mean.clone(), priors.tissue_of_class, table, Draws(3), options)
    for code in (136, 502, 514):
        assert 0.8 <= mean_of(code, means, tissues) <= 1.6
    for code in (2, 3, 24, 511, 515):
        assert mean_of(code, means, tissues) == mean_of(code, priors.mean, tissues)


def test_a_coil_field_is_smooth_and_as_strong_as_drawn():
    options = SynthesisOptions(coil_gain=4.0)
    ratios = []
    for seed in range(12):
        field = coil_field([24, 30, 24], 8.0, Draws(seed), options)
        assert field.min() == pytest.approx(1.0, abs=1e-4)
        ratios.append(float(field.max()))
        assert max(float(field.log().diff(dim=axis).abs().max()) for axis in range(3)) < 0.35
    assert 1.5 <= min(ratios) < 2.2
    assert 3.2 < max(ratios) <= 4.0 + 1e-3


def test_ghosts_are_copies_at_equal_distances_along_one_axis():
    image = torch.zeros(40, 40, 40)
    image[20, 20, 20] = 1.0
    options = SynthesisOptions(ghost_share=0.2)
    for seed in range(6):
        ghosts = add_ghosts(image, Draws(seed), options) - image
        places = ghosts.nonzero()
        moved = places - 20
        axes = {int(row.abs().argmax()) for row in moved if row.abs().sum()}
        assert len(axes) == 1
        assert 0 < ghosts.abs().max() <= 0.2 + 1e-6


def test_low_field_has_coarser_voxels_and_more_noise():
    options = low_field(Draws(0), SynthesisOptions(low_field=1.0))
    assert {name: getattr(options, name) for name in LOW_FIELD} == LOW_FIELD
    assert low_field(Draws(0), SynthesisOptions()) == SynthesisOptions()


def test_options_that_are_off_draw_nothing(tmp_path):
    maps = find_label_maps(write_phantoms(tmp_path, 1))
    arguments = (maps, 6.0, ((144,) * 3,) * 2, 1, 0)
    plain = SyntheticBrainDataset(*arguments)[0]["image"]
    off = dict.fromkeys(("bright_scalp", "coil", "contrast_agent", "low_field", "ghosts", "cavities"), 0.0)
    assert torch.equal(plain, SyntheticBrainDataset(*arguments, options=off)[0]["image"])
    for name in ("bright_scalp", "coil", "low_field", "ghosts"):
        changed = SyntheticBrainDataset(*arguments, options={name: 1.0})[0]["image"]
        assert not torch.equal(plain, changed), name
        assert math.isfinite(float(changed.sum()))
