"""What a coil, a contrast agent, a scalp and finer voxels do to a scan, by other rules than training draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, distance_transform_edt, gaussian_filter

from benchmarks.disturbances import Pair, bright_shell, reoriented, white_level

LATERAL_VENTRICLES = (4, 43)


def finer(pair: Pair, mm: float) -> Pair:
    """Interpolate to cubes of an edge: image linearly, labels by the nearest."""
    image, labels, affine = reoriented(pair, "RAS")
    steps = mm / np.linalg.norm(affine[:3, :3], axis=0)
    shape = [round(length / step) for length, step in zip(image.shape, steps, strict=True)]
    offset = (steps - 1) / 2  # corners stay where they are
    fine = affine @ np.diag([*steps, 1.0])
    fine[:3, 3] = affine[:3, :3] @ offset + affine[:3, 3]
    return (
        affine_transform(image, np.diag(steps), offset, shape, order=1, mode="nearest"),
        affine_transform(labels, np.diag(steps), offset, shape, order=0, mode="nearest"),
        fine,
    )


def near_coil(pair: Pair, seed: int, radius: float = 70.0, gap: float = 30.0, body: float = 0.25) -> Pair:
    """Multiply by the field of a loop beside the head, on top of a body coil's: about four to one from side to side.

    On its axis a loop of a radius r sees a distance d with r³ / (d² + r²)^1.5 (Biot and Savart).
    """
    image, labels, affine = pair
    direction = np.random.default_rng(seed).normal(size=3)
    direction /= np.linalg.norm(direction)
    corner = [length - 1 for length in image.shape]
    world = np.stack(np.meshgrid(*[np.arange(n + 1.0) for n in corner], indexing="ij"), -1) @ affine[:3, :3].T
    heads = world[image > 0]
    centre = heads.mean(0)
    place = centre + direction * (((heads - centre) @ direction).max() + gap)
    squared = ((world - place) ** 2).sum(-1)
    field = body + (radius**2 / (squared + radius**2)) ** 1.5
    return image * field / np.median(field[image > 0]), labels, affine


def with_agent(pair: Pair, seed: int) -> Pair:
    """Brighten what takes up gadolinium: vessels in the fluid, meninges, choroid plexus."""
    image, labels, affine = pair
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    white, head = white_level(image, labels), image > 0
    smooth = _smooth(image.shape, seed, 2.5 / spacing)
    fluid = head & (labels == 0) & (image < 0.6 * white)
    vessels = fluid & (np.abs(smooth) < 0.15)
    meninges = (
        head & (labels == 0) & (distance_transform_edt(np.pad(head, 1), sampling=spacing)[1:-1, 1:-1, 1:-1] <= 1.5)
    )
    plexus = np.isin(labels, LATERAL_VENTRICLES) & (_smooth(image.shape, seed + 1, 2.0 / spacing) > 1)
    result = np.where(vessels | plexus, 1.5 * white, image)
    return np.where(meninges, 1.3 * white, result), labels, affine


def _smooth(shape: tuple[int, ...], seed: int, sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return noise of a standard deviation of 1, smoothed."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return np.asarray(noise / noise.std())


SCANNERS: dict[str, tuple[Callable[[Pair, int], Pair], float | None]] = {
    "0.7 mm": (lambda pair, seed: finer(pair, 0.7), 0.04),
    "bright scalp, 3 x": (lambda pair, seed: bright_shell(pair, 3), 0.04),
    "coil at one side": (near_coil, 0.04),
    "contrast agent": (with_agent, 0.04),
}
"""Condition, what makes it, and how far the mean Dice may fall."""
