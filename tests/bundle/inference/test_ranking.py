"""The likeliest classes of voxels are those of a sort, the sum of odds that of float64, whatever the logits hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bundle.inference import ranking
from bundle.inference.ranking import Ranking, voxel_boxes


def logits_of(classes, voxels, seed, scale=3.0):
    return torch.randn(classes, voxels, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("classes", [2, 5, 118, 300])
@pytest.mark.parametrize("weighted", [False, True])
def test_classes_leads_and_odds_are_those_of_logits_sorted_in_float64(classes, weighted):
    logits = logits_of(classes, 500, classes)
    weights = torch.rand(500) + 0.01 if weighted else None
    true = logits.double() / (1 if weights is None else weights.double())
    before, found = logits.clone(), Ranking(logits, weights)
    ordered, order = true.sort(dim=0, descending=True)
    for place in range(min(4, classes)):
        channels, lead = found.next()
        near = (ordered[place] - true.gather(0, channels[None])[0]).abs()
        assert (near <= 1e-3 * (ordered[0] - ordered[place])).all()
        assert (channels == order[place]).float().mean() >= (0.99 if place else 1)
        assert torch.allclose(lead.double(), true.gather(0, channels[None])[0] - ordered[0], atol=1e-5, rtol=1e-5)
    assert torch.allclose(found.total().double(), (true - ordered[0]).exp().sum(dim=0), rtol=1e-5)
    assert torch.equal(logits, before)


def test_the_first_class_is_that_of_argmax_where_many_are_equal_or_nearly_so():
    whole = torch.randint(-2, 3, (118, 4000), generator=torch.Generator().manual_seed(1)).float()
    nearly = 1000 + whole * 6e-5  # one step of float32
    for logits in (whole, nearly):
        assert torch.equal(Ranking(logits).next()[0], logits.argmax(dim=0))
        assert torch.equal(Ranking(logits).first(), logits.argmax(dim=0))


@pytest.mark.parametrize("classes", [2, 118, 300])
@pytest.mark.parametrize("weighted", [False, True])
def test_margins_are_those_of_probabilities_in_float64_and_0_where_a_logit_is_not_finite(classes, weighted):
    logits = logits_of(classes, 500, classes)
    logits[1, 10:20], logits[0, 15:25], logits[:1, 30:60] = torch.nan, torch.inf, -torch.inf
    weights = torch.rand(500) + 0.01 if weighted else None
    found = Ranking(logits, weights)
    winners = found.first()
    assert torch.equal(winners, logits.argmax(dim=0))
    two = (logits.double() / (1 if weights is None else weights.double())).softmax(dim=0).topk(2, dim=0).values
    expected = (two[0] - two[1]).where(logits.amax(dim=0).isfinite(), 0)
    assert torch.allclose(found.margins(winners).double(), expected, atol=1e-6)


def test_no_class_comes_twice():
    found = Ranking(torch.zeros(4, 50))
    channels = torch.stack([found.next()[0] for _ in range(4)])
    assert torch.equal(channels, torch.arange(4)[:, None].expand(4, 50))


def test_nan_and_infinity_win_and_what_was_forbidden_does_not():
    logits = logits_of(6, 200, 2)
    logits[2, 10:20], logits[4, 15:25], logits[:2, 30:60] = torch.nan, torch.inf, -torch.inf
    logits[:, 70], logits[1, 80:90], logits[3, 85:95] = -torch.inf, torch.inf, torch.inf
    found = Ranking(logits)
    assert torch.equal(found.first(), logits.argmax(dim=0))
    assert torch.equal(found.next()[0], logits.argmax(dim=0))
    assert torch.equal(found.decided, logits.amax(dim=0).isfinite())
    second, lead = found.next()
    assert not ((second < 2) & (torch.arange(200) >= 30) & (torch.arange(200) < 60)).any()
    assert not lead[found.decided].isnan().any()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 1, 2), (0, 2, 3, 1)])
@pytest.mark.parametrize("cache", [4, 4 * 7 * 100, 1 << 30])
def test_boxes_hold_each_voxel_once_and_few_at_a_time(order, cache, monkeypatch):
    monkeypatch.setattr(ranking, "CACHE_BYTES", cache)
    logits = torch.empty(7, 9, 30, 11).permute(order)
    seen = np.zeros(logits.shape[1:], dtype=int)
    for box in voxel_boxes(logits, 7):
        seen[box] += 1
        assert logits[(slice(None), *box)].numel() * 4 <= max(cache * torch.get_num_threads(), 4 * 7)
    assert (seen == 1).all()
