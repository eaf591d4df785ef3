"""Each structure keeps the pieces that it is likely to consist of; stray ones become the next likely class."""

from __future__ import annotations

from collections import Counter
from itertools import product

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


def two_pieces(sure, unsure, length=6):
    """Return logits of class 1 in a cube of 4 and a bar of ``length`` x 4 x 4, with the margins of each to class 2."""
    logits = torch.zeros(3, 20, 6, 6)
    logits[0], logits[2] = 3, 2
    logits[1, 1:5, 1:5, 1:5], logits[1, 8 : 8 + length, 1:5, 1:5] = 3 + sure, 3 + unsure
    return logits


def counted(logits, channels=(1, 2)):
    """Return the winners after the rule, what each class lost and what it had in other large pieces."""
    dropped, apart = Counter(), Counter()
    winner = keep_largest_components(logits, channels, dropped, apart).argmax(0)
    return winner, dict(+dropped), dict(+apart)


def test_piece_that_the_network_is_sure_of_is_kept_though_another_is_larger():
    winner, dropped, apart = counted(two_pieces(sure=8, unsure=3, length=10))
    assert (winner[1:5, 1:5, 1:5] == 1).all()
    assert (winner == 1).sum() == 64
    assert dropped == apart == {1: 160}


def test_large_pieces_are_kept_where_the_network_is_about_as_sure_of_both():
    logits = two_pieces(sure=8, unsure=5, length=2)
    before = logits.argmax(0)
    winner, dropped, apart = counted(logits)
    assert torch.equal(winner, before)
    assert (dropped, apart) == ({}, {1: 32})


def test_piece_that_dwarfs_the_surest_one_is_not_lost():
    logits = torch.zeros(2, 12, 12, 12)
    logits[1, :6] = 2
    logits[1, 8:10, :6, :7] = 90  # 84 of 864 voxels are less than a tenth
    before = logits.argmax(0)
    winner, dropped, apart = counted(logits, [1])
    assert torch.equal(winner, before)
    assert (dropped, apart) == ({}, {1: 864})


def test_tiny_piece_is_never_the_main_one():
    logits = torch.zeros(2, 12, 12, 12)
    logits[1, :6] = 2
    logits[1, 8:10, :2, :2] = 90  # 8 of 864
    winner, dropped, apart = counted(logits, [1])
    assert (winner[:6] == 1).all()
    assert (dropped, apart) == ({1: 8}, {})


def test_voxels_that_a_class_only_inherits_are_no_evidence_for_it():
    """A cavity is class 1, next likely class 2, whose own piece is smaller but sure; class 0 follows."""
    logits = torch.zeros(3, 24, 6, 6)
    logits[0] = 1
    logits[1, 1:4, 1:4, 1:4], logits[2, 20:23, 1:4, 1:4] = 9, 9
    logits[1, 8:12, 1:5, 1:5], logits[2, 8:12, 1:5, 1:5], logits[0, 8:12, 1:5, 1:5] = 4, 3, -90
    winner, dropped, apart = counted(logits)
    assert (winner[8:12, 1:5, 1:5] == 0).all()
    assert (winner > 0).sum() == 54
    assert dropped == apart == {1: 64}


def pieces_by_flooding(mask):
    """Return the pieces of a mask as sets of voxels: neighbours share a corner."""
    left, found = {tuple(voxel) for voxel in np.argwhere(mask).tolist()}, []
    steps = [step for step in product((-1, 0, 1), repeat=3) if any(step)]
    while left:
        piece, edge = set(), [min(left)]
        left.remove(edge[0])
        while edge:
            voxel = edge.pop()
            piece.add(voxel)
            near = {tuple(a + b for a, b in zip(voxel, step, strict=True)) for step in steps} & left
            left -= near
            edge.extend(near)
        found.append(piece)
    return found


def winners_by_hand(logits, channels):
    """Return what wins after the rule, voxel by voxel: written anew, for small volumes."""
    logits, inherited = logits.astype(np.float64), set()
    gained = set(channels)
    for _ in range(4):
        classes, gained = sorted(gained), set()
        for channel in classes:
            pieces = sorted(pieces_by_flooding(logits.argmax(0) == channel), key=min)
            if len(pieces) < 2:
                continue
            order = np.sort(logits, axis=0)
            margins = order[-1] - order[-2]
            sureness = {id(piece): sum(margins[v] for v in piece - inherited) / len(piece) for piece in pieces}
            largest = max(map(len, pieces))
            rivals = [piece for piece in pieces if 100 * len(piece) >= largest]
            main = max(rivals, key=lambda piece: (sureness[id(piece)], len(piece)))
            for piece in pieces:
                unlikely = sureness[id(piece)] < 0.6 * sureness[id(main)] and len(piece) <= 10 * len(main)
                if piece is not main and (10 * len(piece) < len(main) or unlikely or piece not in rivals):
                    inherited |= piece
                    for voxel in piece:
                        logits[(channel, *voxel)] = -np.inf
                        gained |= {int(logits[(slice(None), *voxel)].argmax())} & set(channels)
    return logits.argmax(0)


@pytest.mark.parametrize("smooth", [0.6, 0.9, 1.3])
def test_rule_equals_flooding_by_hand(smooth):
    rng = np.random.default_rng()
    lost = 0
    for _ in range(5):
        noise = ndimage.gaussian_filter(rng.normal(size=(5, 9, 8, 7)), (0, smooth, smooth, smooth))
        logits = torch.from_numpy((noise / noise.std()).astype(np.float32))
        expected = winners_by_hand(logits.numpy(), [1, 2, 4])
        lost += int((logits.argmax(0).numpy() != expected).sum())
        assert np.array_equal(keep_largest_components(logits.clone(), [1, 2, 4]).argmax(0).numpy(), expected)
    assert lost > 0
