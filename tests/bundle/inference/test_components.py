"""Each structure keeps its largest component, and what lay apart becomes the next likely class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from bundle.inference import KeepLargestComponentsd, keep_largest_components


@pytest.fixture
def logits() -> torch.Tensor:
    """Class 1 fills the right half and has a stray cube in class 2, which has a smaller one in class 0."""
    values = torch.zeros(3, 12, 10, 8)
    values[1, 6:] = 2
    values[2, :6] = 1
    values[0, :6] = 0.5
    values[1, 1:3, 1:3, 1:3] = 3
    values[2, 5, 9, 7], values[0, 5, 9, 6:], values[0, 5, 8, 6:], values[0, 4, 8:, 6:] = 9, 4, 4, 4
    return values


def test_stray_pieces_become_the_next_likely_class(logits):
    before = logits.argmax(0)
    assert (before[1:3, 1:3, 1:3] == 1).all()
    assert before[5, 9, 7] == 2
    after = keep_largest_components(logits, [1, 2]).argmax(0)
    assert (after[1:3, 1:3, 1:3] == 2).all()
    assert after[5, 9, 7] == 0
    changed = after != before
    assert changed.sum() == 9
    for channel in (1, 2):
        assert ndimage.label((after == channel).numpy(), np.ones((3, 3, 3)))[1] == 1


def test_a_class_that_gains_a_stray_piece_loses_it_too():
    logits = torch.zeros(4, 10, 4, 4)
    logits[1, :3], logits[2, 7:] = 2, 2
    logits[2, 5, 1, 1], logits[1, 5, 1, 1], logits[3, 5, 1, 1] = 3, 2, 1
    after = keep_largest_components(logits, [1, 2]).argmax(0)
    assert after[5, 1, 1] == 3
    assert torch.equal(after == 1, torch.arange(10)[:, None, None].expand_as(after) < 3)


def test_other_classes_keep_all_their_pieces(logits):
    before = logits.argmax(0)
    after = keep_largest_components(logits, [2]).argmax(0)
    assert (after[1:3, 1:3, 1:3] == 1).all()
    assert (after != before).sum() == 1


def test_pieces_that_share_a_corner_are_one():
    logits = torch.zeros(2, 6, 6, 6)
    logits[1, 1, 1, 1] = logits[1, 2, 2, 2] = logits[1, 3, 1, 3] = 1
    before = logits.clone()
    assert torch.equal(keep_largest_components(logits, [1]), before)


def test_an_absent_class_is_no_error(logits):
    logits[2] = -5
    before = logits.argmax(0)
    assert (keep_largest_components(logits, [2]).argmax(0) == before).all()


def test_logits_of_inference_mode_are_taken(logits):
    with torch.inference_mode():
        result = logits * 1.0
    assert keep_largest_components(result, [1]).isinf().sum() == 8


def test_codes_choose_the_channels_and_none_leaves_all(logits, tmp_path):
    (tmp_path / "labels.tsv").write_text("index\tname\n0\tbackground\n7\tone\n9\ttwo\n")
    labels = tmp_path / "labels.tsv"
    kept = KeepLargestComponentsd("pred", [], labels)({"pred": logits.clone()})["pred"]
    assert torch.equal(kept, logits)
    changed = KeepLargestComponentsd("pred", [9], labels)({"pred": logits.clone()})["pred"]
    assert changed.isinf().sum(dim=(1, 2, 3)).tolist() == [0, 0, 1]
    for code in (0, 8):
        with pytest.raises(ValueError, match=f"no structure with the code {code}"):
            KeepLargestComponentsd("pred", [7, code], labels)
