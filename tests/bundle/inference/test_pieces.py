"""Pieces of a class are scipy's, whatever is looked through together, and are given so many voxels at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bundle.inference import logits, pieces
from bundle.inference.finalists import Finalists
from bundle.inference.logits import voxels_by_planes
from bundle.inference.pieces import Pieces

START = (5, 7, 9)


@pytest.fixture
def is_class():
    return np.random.default_rng(2).random((12, 9, 10)) < 0.08


@pytest.mark.parametrize("planes", [1, 200, 10_000])
@pytest.mark.parametrize("part", [3, 40, 10_000])
@pytest.mark.parametrize("together", [1, 4])
def test_voxels_of_some_pieces_come_once_each_with_their_piece(is_class, planes, part, together, monkeypatch):
    monkeypatch.setattr(pieces, "PLANES_VOXELS", planes)
    monkeypatch.setattr(pieces, "PART_VOXELS", part)
    monkeypatch.setattr(pieces, "TOGETHER", together)
    numbered, count = ndimage.label(is_class, np.ones((3, 3, 3)))
    found = Pieces(is_class, START)
    assert found.count == count > 10
    assert np.array_equal(found.sizes, np.bincount(numbered[numbered > 0], minlength=count + 1))
    chosen = np.arange(count + 1) % 3 == 1
    parts = list(found.voxels(chosen))
    assert all(0 < voxels.shape[1] == len(piece) <= 2 * part for voxels, piece in parts)
    again = np.zeros_like(numbered)
    for voxels, piece in parts:
        place = tuple(voxels - np.array(START)[:, None])
        assert (again[place] == 0).all()
        again[place] = piece
    assert np.array_equal(again, np.where(chosen[numbered], numbered, 0))


def test_of_one_piece_and_of_none_nothing_is_kept():
    for size in (0, 4):
        is_class = np.zeros((6, 6, 6), dtype=bool)
        is_class[:size] = True
        found = Pieces(is_class, START)
        assert found.count == int(size > 0)
        assert not list(found.voxels(np.ones(found.count + 1, dtype=bool)))


@pytest.mark.parametrize("part", [1, 100, 10_000])
def test_chosen_voxels_of_a_grid_come_in_order(is_class, part, monkeypatch):
    monkeypatch.setattr(logits, "PART_VOXELS", part)
    found = np.concatenate(list(voxels_by_planes(is_class)), axis=1)
    assert np.array_equal(found, np.nonzero(is_class))
    assert not list(voxels_by_planes(np.zeros_like(is_class)))


def test_votes_of_finalists_are_their_own():
    rng = np.random.default_rng(0)
    votes = Finalists(6, (4, 5, 6))
    order = np.argsort(rng.random((6, 4, 5, 6)), axis=0)[:4]
    second = -rng.random((4, 5, 6))
    votes.channels[:], votes.logs[:] = order, np.stack([0 * second, second, second - 1, second - 2])
    voxels = np.array(np.nonzero(order[0] == 2))
    place = tuple(voxels)
    assert votes.margins(2, voxels) == pytest.approx(-second[place], abs=1e-3)
    assert np.array_equal(votes.forbid(2, voxels), order[1][place])
    assert np.array_equal(votes.winners(), order[0])
