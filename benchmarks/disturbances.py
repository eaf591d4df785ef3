"""What is done to a scan and its labels to see what a segmentation stands: voxels, noise, turns, axes, intensities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, binary_dilation, binary_fill_holes, distance_transform_edt, zoom

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


def standardised(pair: Pair, margin: int | None = 0) -> Pair:
    """Subtract the mean and divide by the standard deviation inside a mask, and leave 0 outside of it.

    Args:
        pair: a stripped scan, whose background is 0.
        margin: voxels that the mask is wider than the head; ``None``: there is no mask.
    """
    image, labels, affine = pair
    mask = np.ones(image.shape, dtype=bool) if margin is None else image != 0
    if margin:
        mask = binary_dilation(mask, iterations=margin)
    result = np.zeros(image.shape, dtype=np.float32)
    result[mask] = (image[mask] - image[mask].mean()) / image[mask].std()
    return result, labels, affine


def marked(pair: Pair, value: float) -> Pair:
    """Scale percentile 99.5 to 1000 and set the background, 0 before, to a value that marks it."""
    image, labels, affine = pair
    return np.where(image == 0, value, image * (1000 / np.percentile(image, 99.5))), labels, affine


def white_level(image: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the median of cerebral white matter."""
    return float(np.median(image[np.isin(labels, WHITE_MATTER)]))


def _depth(image: NDArray[Any], affine: NDArray[Any]) -> NDArray[Any]:
    """Return how deep in the head each voxel lies, mm; negative outside: the distance from the head."""
    head = binary_fill_holes(image > 0.1 * np.percentile(image, 99.5))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    inwards, outwards = (
        distance_transform_edt(np.pad(part, 1, mode="edge"), sampling=spacing) for part in (head, ~head)
    )
    depth: NDArray[Any] = (inwards - outwards)[1:-1, 1:-1, 1:-1]
    return depth


def bright_rim(pair: Pair, mm: float, times: float) -> Pair:
    """Replace the outermost mm of the head by a multiple of white matter: of a stripped head, its cortex."""
    image, labels, affine = pair
    depth = _depth(image, affine)
    return np.where((depth > 0) & (depth <= mm), times * white_level(image, labels), image), labels, affine


def bright_shell(pair: Pair, times: float, gap: float = 5.0, mm: float = 6.0) -> Pair:
    """Put a shell of a multiple of white matter around the head, as scalp is beyond the skull."""
    image, labels, affine = padded(pair, 12)
    away = -_depth(image, affine)
    return np.where((away > gap) & (away <= gap + mm), times * white_level(image, labels), image), labels, affine


def bright_slices(pair: Pair, times: float, count: int = 12) -> Pair:
    """Multiply the lowest slices of the head, as the coil of a neck does."""
    image, labels, affine = reoriented(pair, "RAS")
    first = int(np.flatnonzero(image.any(axis=(0, 1)))[0])
    result = image.copy()
    result[:, :, first : first + count] *= times
    return result, labels, affine


def bright_balls(pair: Pair, seed: int, times: float, radius: float, count: int) -> Pair:
    """Replace balls anywhere in the head by a multiple of white matter: fat, vessels, what takes up contrast agent."""
    image, labels, affine = pair
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    places = np.argwhere(image > 0)
    grid = np.ogrid[tuple(slice(length) for length in image.shape)]
    result = image.copy()
    for centre in places[np.random.default_rng(seed).integers(len(places), size=count)]:
        away = sum(((axis - c) * mm) ** 2 for axis, c, mm in zip(grid, centre, spacing, strict=True))
        result[(away <= radius**2) & (image > 0)] = times * white_level(image, labels)
    return result, labels, affine


def hot_voxels(pair: Pair, seed: int, times: float = 20.0, share: float = 0.001) -> Pair:
    """Set one voxel in a thousand of the head to a multiple of white matter."""
    image, labels, affine = pair
    hot = (np.random.default_rng(seed).random(image.shape) < share) & (image > 0)
    return np.where(hot, times * white_level(image, labels), image), labels, affine


def padded(pair: Pair, voxels: int) -> Pair:
    """Put black around the field of view."""
    image, labels, affine = pair
    affine = affine.copy()
    affine[:3, 3] -= voxels * affine[:3, :3].sum(axis=1)
    return np.pad(image, voxels), np.pad(labels, voxels), affine


WHITE_MATTER = (2, 41)
# condition -> what makes it of a stripped scan whose background is 0; labels tell white matter
INTENSITIES: dict[str, Callable[[Pair, int], Pair]] = {
    "standardised in its mask": lambda pair, seed: standardised(pair),
    "in a wider mask": lambda pair, seed: standardised(pair, 3),
    "standardised": lambda pair, seed: standardised(pair, None),
    "-1024 around": lambda pair, seed: marked(pair, -1024),
    "white around": lambda pair, seed: marked(pair, 1100),
    "rim 1.5 mm, 3 x": lambda pair, seed: bright_rim(pair, 1.5, 3),
    "rim 3 mm, 3 x": lambda pair, seed: bright_rim(pair, 3, 3),
    "rim 5 mm, 3 x": lambda pair, seed: bright_rim(pair, 5, 3),
    "rim 8 mm, 3 x": lambda pair, seed: bright_rim(pair, 8, 3),
    "rim 3 mm, 5 x": lambda pair, seed: bright_rim(pair, 3, 5),
    "shell around, 3 x": lambda pair, seed: bright_shell(pair, 3),
    "shell around, 5 x": lambda pair, seed: bright_shell(pair, 5),
    "lowest slices, 4 x": lambda pair, seed: bright_slices(pair, 4),
    "balls, 3 x, 17 mL": lambda pair, seed: bright_balls(pair, seed, 3, 8, 8),
    "balls, 3 x, 57 mL": lambda pair, seed: bright_balls(pair, seed, 3, 15, 4),
    "hot voxels, 20 x": hot_voxels,
    "air around": lambda pair, seed: padded(pair, 50),
}

UNDISTURBED = "as it is"
# condition -> what makes it, and how far the mean Dice may fall (``None``: reported only)
CONDITIONS: dict[str, tuple[Callable[[Pair, int], Pair], float | None]] = {
    UNDISTURBED: (lambda pair, seed: pair, None),
    "1 x 1 x 3 mm": (lambda pair, seed: averaged(pair, (1, 1, 3)), 0.10),
    "2 x 2 x 2 mm": (lambda pair, seed: averaged(pair, (2, 2, 2)), 0.04),
    "1 x 1 x 5 mm": (lambda pair, seed: averaged(pair, (1, 1, 5)), 0.04),
    "bias field": (biased, None),
    "noise": (noisy, None),
    "rotated 20 degrees": (lambda pair, seed: turned(pair, ((20.0, 0, 0), (0, 20.0, 0), (0, 0, 20.0))[seed % 3]), 0.02),
    "LPS": (lambda pair, seed: reoriented(pair, "LPS"), 0.02),
    "oblique": (lambda pair, seed: oblique(pair), 0.02),
}
