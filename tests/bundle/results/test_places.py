"""Places of structures against those of a head: whatever its position, size and turn, but not whatever its order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bundle.results.layout import fit_places, misplacement
from bundle.results.reference import read_references

USUAL = {code: np.array(row.centre) for code, row in read_references().items()}
PLACES = np.stack([USUAL[code] for code in sorted(USUAL)])


def moved(rng, places):
    """Return places after a random shift, turn and change of size."""
    turn = Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix()
    return rng.uniform(0.5, 2) * places @ turn.T + rng.normal(0, 50, 3)


def by_code(places):
    return dict(zip(sorted(USUAL), places, strict=True))


def test_head_is_found_wherever_it_lies_and_however_large_it_is():
    rng = np.random.default_rng()
    assert misplacement(by_code(moved(rng, PLACES)), USUAL) == pytest.approx(0, abs=1e-6)
    shaken = PLACES + rng.normal(0, 3, PLACES.shape)
    assert misplacement(by_code(moved(rng, shaken)), USUAL) == pytest.approx(misplacement(by_code(shaken), USUAL))


def test_fit_is_the_one_of_least_squares():
    rng = np.random.default_rng()
    places, wanted = moved(rng, PLACES), PLACES + rng.normal(0, 3, PLACES.shape)
    centred, target = places - places.mean(axis=0), wanted - wanted.mean(axis=0)
    turn = Rotation.align_vectors(target, centred)[0].as_matrix()
    turned = centred @ turn.T
    expected = turned * (turned * target).sum() / (turned**2).sum()
    np.testing.assert_allclose(fit_places(places, wanted).places, expected, atol=1e-5)


def test_mirror_image_is_no_head():
    assert misplacement(by_code(PLACES * [-1, 1, 1]), USUAL) > 15


def test_structures_in_another_order_lie_far_off():
    rng = np.random.default_rng()
    assert misplacement(by_code(rng.permutation(PLACES)), USUAL) > 15


def test_a_structure_that_is_not_there_counts_as_if_in_the_middle():
    without = {code: place for code, place in USUAL.items() if code != 8}
    expected = np.linalg.norm(USUAL[8] - PLACES.mean(axis=0)) / np.sqrt(len(USUAL))
    assert misplacement(without, USUAL) == pytest.approx(expected)
    spread = np.sqrt(((PLACES - PLACES.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert misplacement({}, USUAL) == pytest.approx(spread)
    assert misplacement({code: np.zeros(3) for code in USUAL}, USUAL) == pytest.approx(spread)
