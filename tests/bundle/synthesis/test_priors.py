"""Intensities of the tissues: what they share and what they keep."""

from __future__ import annotations

import pytest
import torch

from bundle.labels import read_labels
from bundle.synthesis.anatomy import ClassTable
from bundle.synthesis.draws import Draws
from bundle.synthesis.priors import TissuePriors
from bundle.synthesis.tissues import read_tissues


@pytest.mark.parametrize("shared", [0.0, 0.8, 1.0])
def test_tissues_of_a_kind_share_their_contrast_and_keep_their_spread(shared):
    codes = (2, 3, 18, 54, 10)
    priors = TissuePriors.t1(ClassTable.from_codes(codes, read_labels()))
    assert tissue_codes(priors, codes) == {2: 2, 3: 3, 18: 18, 54: 18, 10: 10}
    drawn = torch.stack([priors.draw(Draws(seed), shared) for seed in range(4000)]).T
    torch.testing.assert_close(drawn.mean(1), priors.mean, atol=0.004, rtol=0)
    torch.testing.assert_close(drawn.std(1), priors.spread, atol=0, rtol=0.06)
    white, cortex, thalamus, amygdala = 1, 2, 3, 4  # after the background, by code
    correlation = torch.corrcoef(drawn)
    assert correlation[cortex, amygdala] == pytest.approx(shared, abs=0.05)
    for other in (white, thalamus):
        assert correlation[cortex, other] == pytest.approx(0, abs=0.05)


def tissue_codes(priors, codes):
    """Return the left code whose draw each code takes."""
    table = read_tissues()
    tissues = sorted({0, *(table[code].source for code in codes)})
    ordered = sorted({0, *codes})
    return {code: tissues[priors.tissue_of_class[ordered.index(code)]] for code in codes}
