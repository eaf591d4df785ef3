"""The likeliest class of each voxel is that of argmax, whatever the logits hold and however they lie in memory."""

from __future__ import annotations

import pytest
import torch

from bundle.inference import winners
from bundle.inference.winners import winners_of


@pytest.fixture(autouse=True)
def _few_voxels_together(monkeypatch):
    monkeypatch.setattr(winners, "TOGETHER", 200)


def logits_of(classes, shape, seed):
    """Whole numbers, so that many are equal."""
    return torch.randint(-4, 5, (classes, *shape), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(7, 9, 5), (1, 1, 1), (2, 40, 30)])
def test_winners_are_those_of_argmax(shape, dtype):
    logits = logits_of(6, shape, 1).to(dtype)
    found = winners_of(logits)
    assert found.dtype == torch.uint8
    assert torch.equal(found.long(), logits.argmax(dim=0))


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, 3, 2, 1)])
def test_turned_logits_and_parts_of_them(order):
    logits = logits_of(9, (8, 7, 6), 2).permute(order)[:, 1:4]
    assert torch.equal(winners_of(logits).long(), logits.argmax(dim=0))


def test_nan_wins_and_what_was_forbidden_does_not():
    logits = logits_of(5, (9, 8, 7), 3)
    logits[2, 4, 3, 3] = torch.nan
    logits[:2, 6] = -torch.inf
    logits[:, 7, 1, 1] = -torch.inf
    assert torch.equal(winners_of(logits).long(), logits.argmax(dim=0))


def test_more_classes_than_uint8_holds():
    logits = logits_of(300, (3, 4, 5), 4)
    logits[299, 1] = 9
    found = winners_of(logits)
    assert found.dtype == torch.int16
    assert torch.equal(found.long(), logits.argmax(dim=0))
