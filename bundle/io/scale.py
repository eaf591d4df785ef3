"""Where black and white of a head lie: a background that is not the darkest value, and what outshines the brain.

Both answers are ``None`` for a scan as scanners and stripping tools write it; its percentiles are its scale then.
``tests/bundle/io/test_scale.py`` holds them to a second way of computing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SAMPLE = 1_000_000
"""About so many voxels, on a regular grid, tell which value is the commonest; sorting all of them takes seconds."""
BACKGROUND_SHARE = 0.2
"""A background fills at least this share of all voxels; half of the box around a brain lies outside of it."""
FACE_SHARE = 0.25
"""And of the outermost ones: saturated tissue can be common too, but not there."""
DARKEST, BRIGHTEST = 0.1, 99.5
"""Percentiles of what is no background, between which positions are told: 0 is the darkest, 1 the brightest."""
HIGHEST = 0.1
"""Position above which a background is a grey: noise of the air around a head stays below 0.05."""
LOWEST = -0.5
"""Position below which a background is a mark and no black: -0.13 to -0.23 in five stripped scans."""
FLOOR = 0.01
"""Percentiles 0.1 and 0.5 closer than this: the rest has a black of its own, air or the rim of a generous mask. They
are 0.02 to 0.09 apart in five stripped scans."""
AIR = 25.0
"""Percentile of what is no background that air reaches, in a field of view that holds a head and air."""
BLACK = -0.17
"""Position of black where the rest has none: the median of five stripped scans, whose fluid is brighter than air."""

DEPTH_SPACING = 4.0
"""mm between the voxels that depth is measured at."""
DEEPEST = 1 / 3
"""Share of the head that counts as its inside: 18 mm and more below the surface of a stripped brain, 25 of a head."""
INSIDE_PERCENTILE = 75.0
"""Of the inside: white matter, 0.80 to 1.11 of its median in 48 heads of the generator, stripped or whole."""
BRIGHT_PERCENTILE = 99.0
"""Of the inside: what is as bright as this belongs to it, such as fluid in T2. In five T1 scans, 1.07 to 1.11 times
the level, less than what becomes white."""
LEAST_INSIDE = 500
"""Voxels that an inside has at least, 32 mL; what is smaller is no head."""


@dataclass(frozen=True)
class Background:
    """A background that is not the darkest value, or far below it.

    Attributes:
        value: what it is.
        black: what belongs in its place.
    """

    value: float
    black: float


@dataclass(frozen=True)
class Scale:
    """What became black and white in an image that a network sees.

    Attributes:
        low, high: the intensities that became 0 and 1.
        source: ``"percentiles"`` of all voxels, or ``"inside"``: ``high`` comes from the inside of the head.
        background: what was changed before.
    """

    low: float
    high: float
    source: str
    background: Background | None = None


def background_metadata(background: Background) -> dict[str, float | str]:
    """Return a part of what :func:`scale_of` reads, in numbers, which MONAI's collation takes."""
    return {"background_value": background.value, "background_black": background.black}


def scale_metadata(low: float, high: float, source: str) -> dict[str, float | str]:
    """Return the other part."""
    return {"scale_low": low, "scale_high": high, "scale_source": source}


def scale_of(meta: Mapping[Hashable, Any]) -> Scale | None:
    """Return how an image was scaled from its metadata; ``None`` where it was scaled by other means."""
    if "scale_source" not in meta:
        return None
    background = None
    if "background_value" in meta:
        background = Background(float(meta["background_value"]), float(meta["background_black"]))
    return Scale(float(meta["scale_low"]), float(meta["scale_high"]), str(meta["scale_source"]), background)


def find_background(image: NDArray[Any]) -> Background | None:
    """Return the commonest value where it is a background that no percentile would call black.

    It is 0 in a scan that was standardised inside a mask, where half of the brain is darker, or a mark such as -1024
    for what was not reconstructed. A background that is a little darker than all else is as it should be.

    Args:
        image: intensities, shape (X, Y, Z), finite.
    """
    step = max(1, round((image.size / SAMPLE) ** (1 / 3)))
    sample = image[::step, ::step, ::step]
    values, counts = np.unique(sample, return_counts=True)
    commonest = values[counts.argmax()]
    if counts.max() < BACKGROUND_SHARE * sample.size or _share_of_faces(image, commonest) < FACE_SHARE:
        return None
    rest = sample[sample != commonest]
    if not rest.size:
        return None
    darkest, dark, quarter, brightest = np.percentile(rest, [DARKEST, 5 * DARKEST, AIR, BRIGHTEST]).tolist()
    span = brightest - darkest
    if span <= 0:
        return None
    position = (float(commonest) - darkest) / span
    has_floor = dark - darkest <= FLOOR * span
    if position < 0:
        # The floor would be air; a cavity of one dark value is none, and above a 0 it is tissue: white matter in T2.
        has_floor = has_floor and quarter - darkest <= HIGHEST * span and commonest != 0
    if (-HIGHEST if has_floor else LOWEST) <= position <= HIGHEST:
        return None
    return Background(float(commonest), darkest + (0.0 if has_floor else BLACK * span))


@dataclass(frozen=True)
class Inside:
    """How bright the inside of a head is.

    Attributes:
        black: percentile 0.5 of all voxels.
        span: what the level of the inside, near the median of white matter in T1-weighted images, exceeds it by.
        brightest: what the brightest of the inside exceed it by.
    """

    black: float
    span: float
    brightest: float


def measure_inside(image: NDArray[Any], spacing: Sequence[float]) -> Inside | None:
    """Return how bright the deepest third of a head is, whatever shines at its outside or in few of its voxels.

    Depth and percentiles are those of a grid of about 4 mm, which takes hundredths of a second.

    Args:
        image: intensities, shape (X, Y, Z), finite.
        spacing: edges of a voxel in mm.

    Returns:
        ``None`` where there is no head whose outside can be seen.
    """
    steps = [max(1, round(DEPTH_SPACING / length)) for length in spacing]
    coarse = np.asarray(image[tuple(slice(None, None, step) for step in steps)], dtype=np.float64)
    black = float(np.percentile(coarse, 0.5))
    head = _head(coarse - black)
    if head.all() or not head.any():
        return None
    distances = [length * step for length, step in zip(spacing, steps, strict=True)]
    depth = ndimage.distance_transform_edt(head, sampling=distances)
    inside = coarse[depth >= np.quantile(depth[head], 1 - DEEPEST)]
    if inside.size < LEAST_INSIDE:
        return None
    span, brightest = (np.percentile(inside, [INSIDE_PERCENTILE, BRIGHT_PERCENTILE]) - black).tolist()
    return Inside(black, span, brightest)


def _head(image: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return what is brighter than a seventh of the brighter voxels' median, with its holes; black is 0.

    A hole is one in any plane along the axes: below a field of view that ends in the neck a bright rim is open, and its
    inside would be missing.
    """
    bright = image[image > image.mean()]
    if not bright.size:
        return np.zeros(image.shape, dtype=bool)
    head = image > np.median(bright) / 7
    filled: NDArray[np.bool_] = head.copy()
    for axis in range(3):
        within = np.expand_dims(ndimage.generate_binary_structure(2, 1), axis)  # neighbours in the same plane alone
        filled |= ndimage.binary_fill_holes(head, within)
    return filled


def _share_of_faces(image: NDArray[Any], value: Any) -> float:
    """Return how large a share of the six faces of the volume has a value."""
    faces = [np.moveaxis(image, axis, 0)[end] == value for axis in range(3) for end in (0, -1)]
    return float(sum(np.count_nonzero(face) for face in faces) / sum(face.size for face in faces))
