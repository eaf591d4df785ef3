"""What is done to scans with labels to get results of every quality: 30 conditions, the first of which is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.disturbances import CONDITIONS, INTENSITIES, Pair, noisy

AS_THEY_ARE = ("rim 3 mm, 3 x", "rim 8 mm, 3 x", "shell around, 5 x", "lowest slices, 4 x", "balls, 3 x, 57 mL")
"""Of the conditions on intensities, those that inference cannot undo."""
LOSES_HEAD = ("noise", "noise in the head", "phantom ball")
REPAINTED = ("CT-like", "CT-like, window", "inverted", "T2-like", "FLAIR-like", "PD-like", "mask", *LOSES_HEAD)
"""Cases of ``benchmarks.nonsense``, the first of which are of the head still."""


def painted(name: str) -> Callable[[Pair, int], Pair]:
    """Return what repaints a scan as ``benchmarks.nonsense`` does."""

    def spoil(pair: Pair, seed: int) -> Pair:
        from benchmarks.nonsense import CASES
        from benchmarks.painted import Scan

        image, labels, affine = pair
        found = CASES[name](Scan(image, labels, affine)).image
        return found, np.zeros_like(labels) if name in LOSES_HEAD else labels, affine

    return spoil


def turned(*axes: int) -> Callable[[Pair, int], Pair]:
    """Return what reverses axes of image and labels, as a wrong header does."""
    return lambda pair, seed: (np.flip(pair[0], axes).copy(), np.flip(pair[1], axes).copy(), pair[2])


def emptied(axis: int, share: float) -> Callable[[Pair, int], Pair]:
    """Return what removes the lower share of a scan along an axis."""

    def spoil(pair: Pair, seed: int) -> Pair:
        image, labels = pair[0].copy(), pair[1].copy()
        first = [slice(None)] * 3
        first[axis] = slice(0, round(image.shape[axis] * share))
        image[tuple(first)] = labels[tuple(first)] = 0
        return image, labels, pair[2]

    return spoil


def noisier(times: int) -> Callable[[Pair, int], Pair]:
    """Return what adds noise several times."""

    def spoil(pair: Pair, seed: int) -> Pair:
        for number in range(times):
            pair = noisy(pair, seed + 100 * number)
        return pair

    return spoil


DISTURBANCES: Mapping[str, Callable[[Pair, int], Pair]] = {
    **{name: change for name, (change, _) in CONDITIONS.items() if name not in ("LPS", "oblique")},
    **{name: INTENSITIES[name] for name in AS_THEY_ARE},
    **{f"{name} alone" if name in LOSES_HEAD else name: painted(name) for name in REPAINTED},
    "upside down": turned(0, 2),
    "back to front": turned(0, 1),
    "mirrored and upside down": turned(2),
    "right half empty": emptied(0, 0.5),
    "lower third empty": emptied(2, 0.33),
    "back half empty": emptied(1, 0.5),
    "noise, 4 times": noisier(4),
    "noise, 25 times": noisier(25),
}
"""What is done to each scan: 30 conditions, the first of which is none."""
