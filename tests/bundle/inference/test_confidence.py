"""How sure the network was: the mean margin of each structure's voxels, whatever the slabs, infinities and NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bundle.inference import KeepLargestComponentsd, MeasureConfidenced, mean_margins
from bundle.labels import read_labels

TABLE = read_labels()


def reference(logits):
    """Return the margins by class, voxel by voxel in float64."""
    values = logits.double().numpy().reshape(len(logits), -1).T
    margins = {}
    for voxel in values:
        odds = np.exp(voxel - voxel.max())
        first, second = np.sort(odds / odds.sum())[::-1][:2]
        margins.setdefault(int(voxel.argmax()), []).append(first - second)
    return {channel: np.mean(found) for channel, found in margins.items() if channel}


@pytest.mark.parametrize("slab_voxels", [1, 40, 10_000])
def test_margins_equal_those_of_probabilities_sorted_in_float64(slab_voxels):
    logits = torch.randn(5, 7, 6, 5) * 3
    before = logits.clone()
    assert mean_margins(logits, slab_voxels) == pytest.approx(reference(logits), abs=1e-6)
    assert torch.equal(logits, before)


def test_certainty_is_1_and_a_toss_up_0():
    logits = torch.zeros(3, 2, 2, 2)
    logits[1, 0], logits[2, 1], logits[1, 1] = 200.0, 5.0, 5.0
    logits[2, 1, 0, 0] = 5.001
    margins = mean_margins(logits)
    assert margins[1] == pytest.approx((4 + 0) / 7, abs=1e-3)  # ties go to the first class
    assert margins[2] == pytest.approx(0, abs=1e-3)
    assert mean_margins(torch.zeros(3, 2, 2, 2)) == {}


def test_a_forbidden_class_has_no_part_in_the_margin():
    logits = torch.randn(4, 6, 5, 4)
    logits[3] = -torch.inf
    assert mean_margins(logits) == pytest.approx(reference(logits[:3]), abs=1e-6)


def test_a_voxel_that_is_not_a_number_is_no_certainty():
    logits = torch.zeros(3, 4, 2, 2)
    logits[1] = 100.0
    logits[1, 0] = torch.nan
    assert mean_margins(logits) == {1: pytest.approx(0.75)}


def test_half_precision_gives_the_same_margins_within_its_rounding():
    logits = torch.randn(5, 8, 8, 8) * 3
    exact = mean_margins(logits.bfloat16().float())
    assert mean_margins(logits.bfloat16()) == pytest.approx(exact, abs=1e-6)
    assert mean_margins(logits) == pytest.approx(exact, abs=0.02)


def test_transform_tells_margins_by_code_after_strays_are_gone():
    logits = torch.zeros(len(TABLE), 12, 6, 6)
    right = next(label for label in TABLE if label.name == "Right-Putamen")
    logits[right.channel, :4], logits[right.channel, 11, 0, 0] = 3.0, 9.0
    data = KeepLargestComponentsd("pred", [right.code])({"pred": logits})
    strays_kept = MeasureConfidenced("pred")({"pred": logits.clone().nan_to_num(neginf=9.0)})["pred_confidence"]
    found = MeasureConfidenced("pred")(data)
    odds = np.exp(3) + len(TABLE) - 1
    assert found["pred_confidence"] == {right.code: pytest.approx((np.exp(3) - 1) / odds, abs=1e-6)}
    assert strays_kept[right.code] > found["pred_confidence"][right.code]
    assert found["pred"] is data["pred"]
