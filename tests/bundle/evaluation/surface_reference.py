"""Overlap and surface distances by brute force, and random label maps to try them on."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist


def random_codes(rng: np.random.Generator, shape: tuple[int, ...], codes: list[int]) -> np.ndarray:
    """Return blobs: each voxel has the code whose smooth random field is largest there."""
    fields = [gaussian_filter(rng.normal(size=shape), 1.5) for _ in codes]
    return np.array(codes, dtype=np.int16)[np.argmax(fields, axis=0)]


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice overlap from sets of voxels."""
    a, b = (set(map(tuple, np.argwhere(mask))) for mask in (first, second))
    return 2 * len(a & b) / (len(a) + len(b))


def surface_distances(first: np.ndarray, second: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance in mm of each surface voxel of one mask to the nearest of the other, both ways."""
    points = [np.argwhere(surface(mask)) * spacing for mask in (first, second)]
    distances = cdist(*points)
    return distances.min(axis=1), distances.min(axis=0)


def surface(mask: np.ndarray) -> np.ndarray:
    """Return the voxels with one of six neighbours outside the mask or the volume."""
    padded = np.pad(mask, 1)
    inside = np.ones_like(mask)
    for axis in range(3):
        for step in (-1, 1):
            inside &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return mask & ~inside


def hd95(distances: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the larger of the two 95th percentiles."""
    return max(float(np.percentile(side, 95)) for side in distances)


def nsd(distances: tuple[np.ndarray, np.ndarray], tolerance: float) -> float:
    """Return the share of surface voxels within the tolerance."""
    return float(np.mean(np.concatenate(distances) <= tolerance))
