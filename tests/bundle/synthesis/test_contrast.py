"""Contrasts drawn anew: each tissue for itself, or grey matter, white matter and fluid as sequences change them."""

from __future__ import annotations

import pytest
import torch

from bundle.labels import read_labels
from bundle.synthesis.anatomy import ClassTable
from bundle.synthesis.draws import Draws
from bundle.synthesis.priors import DARKEST, STEP, TissuePriors
from bundle.synthesis.tissues import KINDS, read_tissues

CODES = [0, 2, 3, 4, 10, 13, 17, 30, 511, 515]
SEEDS = range(400)


@pytest.fixture(scope="module")
def priors():
    return TissuePriors.t1(ClassTable.from_codes(CODES, read_labels(), read_tissues()))


def drawn(priors, by_kind):
    """Return the means of every seed by code, (seeds, codes)."""
    means = torch.stack([priors.draw_contrast(Draws(seed), 0.8, by_kind) for seed in SEEDS])
    return dict(zip(CODES, means[:, priors.tissue_of_class].unbind(1), strict=True))


def correlation(first, second):
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def test_kinds_are_drawn_anew_and_the_brain_keeps_its_order(priors):
    found = drawn(priors, 1.0)
    white, grey, fluid = found[2], found[3], found[4]
    step = (white - grey).abs()
    assert 0.15 < float((white > grey).float().mean()) < 0.35
    assert 0.4 < float((fluid > torch.maximum(white, grey)).float().mean()) < 0.65
    assert 0.35 < float((fluid < torch.minimum(white, grey)).float().mean()) < 0.6
    assert float(step.max()) <= STEP[1] + 0.1
    assert float(step.median()) > STEP[0]
    # Thalamus and pallidum lie between grey and white matter, as they do in T1: never beyond both.
    for code in (10, 13):
        low, high = torch.minimum(white, grey), torch.maximum(white, grey)
        assert float(((found[code] >= low - 0.15) & (found[code] <= high + 0.15)).float().mean()) > 0.95
    assert correlation(found[17], grey) > 0.9
    assert all(float(found[code].min()) >= 0 for code in CODES[1:])
    assert float(white.min()) > DARKEST / 2


def test_air_stays_dark_and_the_head_outside_is_drawn_for_itself(priors):
    found = drawn(priors, 1.0)
    assert float(found[0].max()) < 0.15
    for code in (511, 515):
        assert 0.2 < float(found[code].std()) < 0.4
        assert abs(correlation(found[code], found[3])) < 0.2


def test_share_of_contrasts_by_kind(priors):
    apart, both = drawn(priors, 0.0), drawn(priors, 0.5)
    assert abs(correlation(apart[17], apart[3])) < 0.15
    assert float(apart[0].max()) > 0.9
    assert 0.35 < float((both[0] < 0.15).float().mean()) < 0.8
    again = priors.draw_contrast(Draws(3), 0.8, 0.5)
    assert torch.equal(again, priors.draw_contrast(Draws(3), 0.8, 0.5))


def test_tables_without_a_kind_are_drawn_tissue_by_tissue(priors):
    kinds = torch.where(priors.kind_of_tissue == KINDS.index("fluid"), -1, priors.kind_of_tissue)
    bare = TissuePriors(priors.tissue_of_class, kinds, priors.place, priors.mean, priors.spread)
    found = drawn(bare, 1.0)
    assert float(found[0].max()) > 0.9
    assert abs(correlation(found[17], found[3])) < 0.15
