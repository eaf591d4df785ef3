"""What is done to a scan and its labels to see what a segmentation stands: other voxels, noise, turns, axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, zoom

Pair = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # image and labels (X, Y, Z), affine (4, 4)


def averaged(pair: Pair, factors: tuple[int, int, int]) -> Pair:
    """Average blocks of voxels in RAS order; the most frequent label of a block is its label."""
    image, labels, affine = reoriented(pair, "RAS")
    size = [n // factor for n, factor in zip(image.shape, factors, strict=True)]
    inside = tuple(slice(0, n * factor) for n, factor in zip(size, factors, strict=True))
    shape = [length for n, factor in zip(size, factors, strict=True) for length in (n, factor)]
    blocks = image[inside].reshape(shape)
    votes = labels[inside].reshape(shape).transpose(0, 2, 4, 1, 3, 5).reshape(*size, -1)
    most, winner = np.zeros(size, dtype=np.int32), np.zeros(size, dtype=labels.dtype)
    for code in np.unique(votes):
        count = (votes == code).sum(-1)
        winner = np.where(count > most, code, winner)
        most = np.maximum(most, count)
    affine = affine @ np.diag([*factors, 1.0])
    affine[:3, 3] += affine[:3, :3] @ [(1 - 1 / factor) / 2 for factor in factors]  # the centre of the first block
    return blocks.mean((1, 3, 5)), winner, affine


def reoriented(pair: Pair, codes: str) -> Pair:
    """Store the same scan with other axes; no voxel changes its place in the world."""
    image, labels, affine = pair
    change = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(codes)))
    return (
        np.ascontiguousarray(apply_orientation(image, change)),
        np.ascontiguousarray(apply_orientation(labels, change)),
        affine @ inv_ornt_aff(change, image.shape),
    )


def rotation(degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the rotation about X, then Y, then Z, shape (3, 3)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[[i, j], [i, j]] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix


def turned(pair: Pair, degrees: tuple[float, float, float]) -> Pair:
    """Turn the head in the scanner: voxels are interpolated, the affine stays."""
    image, labels, affine = reoriented(pair, "RAS")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    matrix = np.diag(1 / spacing) @ rotation(degrees) @ np.diag(spacing)
    middle = (np.array(image.shape) - 1) / 2
    offset = middle - matrix @ middle
    return (
        affine_transform(image, matrix, offset, order=1),
        affine_transform(labels, matrix, offset, order=0),
        affine,
    )


def oblique(pair: Pair) -> Pair:
    """Turn the scanner's box: the affine is oblique, voxels stay."""
    image, labels, affine = pair
    turn = np.eye(4)
    turn[:3, :3] = rotation((12.0, -9.0, 15.0))
    return image, labels, turn @ affine


def biased(pair: Pair, seed: int) -> Pair:
    """Multiply by a smooth field between about 0.6 and 1.6."""
    image, labels, affine = pair
    points = np.random.default_rng(seed).uniform(-0.5, 0.5, (4, 4, 4))
    field = zoom(points, np.array(image.shape) / 4, order=1, grid_mode=True, mode="nearest")
    return image * np.exp(field), labels, affine


def noisy(pair: Pair, seed: int) -> Pair:
    """Add noise of 5 % of the brightest tissue, inside the brain as a stripping tool leaves it."""
    image, labels, affine = pair
    noise = np.random.default_rng(seed).normal(0, 0.05 * np.percentile(image[image > 0], 99), image.shape)
    return np.where(image > 0, np.maximum(image + noise, 0), image), labels, affine


UNDISTURBED = "as it is"
# condition -> what makes it, and how far the mean Dice may fall (``None``: reported only)
CONDITIONS: dict[str, tuple[Callable[[Pair, int], Pair], float | None]] = {
    UNDISTURBED: (lambda pair, seed: pair, None),
    "1 x 1 x 3 mm": (lambda pair, seed: averaged(pair, (1, 1, 3)), 0.10),
    "2 x 2 x 2 mm": (lambda pair, seed: averaged(pair, (2, 2, 2)), 0.05),
    "1 x 1 x 5 mm": (lambda pair, seed: averaged(pair, (1, 1, 5)), 0.10),
    "bias field": (biased, None),
    "noise": (noisy, None),
    "rotated 20 degrees": (lambda pair, seed: turned(pair, ((20.0, 0, 0), (0, 20.0, 0), (0, 0, 20.0))[seed % 3]), 0.02),
    "LPS": (lambda pair, seed: reoriented(pair, "LPS"), 0.02),
    "oblique": (lambda pair, seed: oblique(pair), 0.02),
}
