"""How far the Dice of real scans falls when they are resampled, disturbed, turned or written in another orientation.

``python -m benchmarks.robustness DATASET_DIR [--checkpoint FILE] [--json FILE]``; DATASET_DIR holds NAME_T1.nii.gz with
NAME_labels.nii.gz (code 255 is not scored). A disturbed scan is scored on its own grid, against the manual labels on
that grid: the most frequent label of a larger voxel, the nearest label after a turn.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy.ndimage import affine_transform, zoom
from tqdm import tqdm

from bundle.datasets import find_pairs
from bundle.inference.segmenter import Segmenter
from bundle.labels import read_labels

IGNORED_VOXELS = 255
UNSCORED_CODES = (24,)
Pair = tuple[np.ndarray, np.ndarray, np.ndarray]  # image and labels (X, Y, Z), affine (4, 4)


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


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
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


# condition -> what makes it, and how far the mean Dice may fall (``None``: reported only)
CONDITIONS: dict[str, tuple[Callable[[Pair, int], Pair], float | None]] = {
    "as it is": (lambda pair, seed: pair, None),
    "1 x 1 x 3 mm": (lambda pair, seed: averaged(pair, (1, 1, 3)), 0.10),
    "2 x 2 x 2 mm": (lambda pair, seed: averaged(pair, (2, 2, 2)), 0.05),
    "1 x 1 x 5 mm": (lambda pair, seed: averaged(pair, (1, 1, 5)), 0.10),
    "bias field": (biased, None),
    "noise": (noisy, None),
    "rotated 20 degrees": (lambda pair, seed: turned(pair, ((20.0, 0, 0), (0, 20.0, 0), (0, 0, 20.0))[seed % 3]), 0.02),
    "LPS": (lambda pair, seed: reoriented(pair, "LPS"), 0.02),
    "oblique": (lambda pair, seed: oblique(pair), 0.02),
}


def mean_dice(predicted: np.ndarray, labels: np.ndarray, codes: list[int]) -> float:
    """Return the mean Dice of the structures, ignored voxels left out."""
    scored = labels != IGNORED_VOXELS
    predicted, labels = predicted[scored], labels[scored]
    size = max(codes) + 1
    both = np.bincount(labels[predicted == labels], minlength=size)[codes]
    total = np.bincount(labels, minlength=size)[codes] + np.bincount(predicted, minlength=size)[codes]
    return float(np.mean(2 * both[total > 0] / total[total > 0]))


def main() -> None:
    """Print the mean Dice of each condition and how far it falls."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("dataset_dir")
    parser.add_argument("--checkpoint", default="models/model.pt")
    parser.add_argument("--json")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    codes = [label.code for label in read_labels()[1:] if label.code not in UNSCORED_CODES]
    pairs = find_pairs(options.dataset_dir)
    scores: dict[str, list[float]] = {name: [] for name in CONDITIONS}
    with tempfile.TemporaryDirectory() as folder, tqdm(total=len(pairs) * len(CONDITIONS), unit="scan") as bar:
        segmenter = Segmenter(output_dir=folder, checkpoint=options.checkpoint, overwrite=True)
        for seed, files in enumerate(pairs):
            scan = nib.load(files["image"])
            labels = np.asarray(nib.load(files["label"]).dataobj).astype(np.int16)
            pair = (scan.get_fdata(dtype=np.float32), labels, scan.affine)
            for name, (change, _) in CONDITIONS.items():
                image, reference, affine = change(pair, seed)
                path = Path(folder) / "scan.nii.gz"
                changed = nib.Nifti1Image(image.astype(np.float32), affine)
                changed.header.set_xyzt_units("mm")
                changed.to_filename(path)
                predicted = np.asarray(nib.load(segmenter.segment(path).label_map).dataobj)
                scores[name].append(mean_dice(predicted, reference, codes))
                bar.update()
    whole = np.mean(scores["as it is"])
    result = {}
    print(f"{'condition':20}{'mean Dice':>10}{'fall':>8}{'worst':>8}  limit")
    for name, (_, limit) in CONDITIONS.items():
        falls = np.array(scores["as it is"]) - scores[name]
        fall = float(whole - np.mean(scores[name]))
        verdict = "" if limit is None else f"{limit:.2f} {'met' if fall < limit else 'MISSED'}"
        print(f"{name:20}{np.mean(scores[name]):10.3f}{fall:8.3f}{falls.max():8.3f}  {verdict}")
        result[name] = {"dice": scores[name], "fall": fall, "limit": limit}
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
