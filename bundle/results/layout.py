"""Whether structures lie to one another as they do in heads, wherever the head is, however large, turned or bent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.float64]
"""World coordinates, mm, RAS+, shape (structures, 3)."""
FEWEST = 3
"""Places that fix a rotation."""


class Fit(NamedTuple):
    """Places after the best shift, rotation and scaling onto others, relative to the centre of those."""

    places: Places
    distances: NDArray[np.float64]


def fit_places(places: Places, wanted: Places) -> Fit:
    """Shift, turn and scale places so that the squared distances to others are least (Umeyama, PAMI 13, 1991, 376).

    Mirror images are no turns.

    Args:
        places: shape (structures, 3).
        wanted: where they are to lie, in the same order, shape (structures, 3).

    Returns:
        The places, and how far from the wanted ones they lie then, mm, shape (structures,).
    """
    source, target = places - places.mean(axis=0), wanted - wanted.mean(axis=0)
    left, stretches, right = np.linalg.svd(source.T @ target)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    size = float((source**2).sum())
    scale = float(stretches @ signs) / size if size else 0.0
    fitted = scale * source @ (left * signs) @ right
    return Fit(fitted, np.linalg.norm(fitted - target, axis=1))


def misplacement(found: Mapping[int, Places], usual: Mapping[int, Places]) -> float:
    """Return how far structures lie from where they belong, root mean square over all of them, mm.

    Places are compared after the best shift, rotation and scaling. One that was not found counts as if it lay in the
    middle of the others.

    Args:
        found: centre of each structure that is there, by code.
        usual: centre of each in a head, by code; others than these are not looked at.
    """
    order = sorted(usual)
    wanted = np.stack([usual[code] for code in order])
    distances = np.linalg.norm(wanted - wanted.mean(axis=0), axis=1)
    there = np.array([code in found for code in order])
    if there.sum() >= FEWEST:
        places = np.stack([found[code] for code in order if code in found])
        distances[there] = fit_places(places, wanted[there]).distances
    return float(np.sqrt((distances**2).mean()))
