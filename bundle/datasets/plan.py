"""What a training on a data set should look like, proposed from its statistics, with the reason for each number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

from bundle.datasets.case import LabelledDataset
from bundle.datasets.statistics import DatasetStatistics

STRIDE = 8
"""Voxels of a token of the network along each axis; windows are multiples of it."""
WINDOW_VOXELS = 96 * 120 * 96
"""Of the smallest window that the brain model trained in: on a processor a step takes seconds, on a GPU any fits."""
ROI_VOXELS = 152 * 192 * 152
"""Of the largest window of the brain model at inference: 2 GB."""
STEP_VOXELS = 2 * 40 * 56 * 40
"""Of a step of the hippocampus training, batch 2: smaller windows get more samples."""
STEPS = 1340
"""Of the hippocampus model's first training, with which it reached most of its score."""
LARGEST_BATCH, MOST_FOLDS, FEWEST_FOLDS = 8, 5, 2
FIXED_UNITS = ("ct",)
"""Modalities whose intensities have a unit; those of others are scaled by percentiles of each image."""
SCALING = 4
"""Place of the transform in the preprocessing of configs/own_data.json that scales intensities."""


@dataclass(frozen=True)
class Plan:
    """Config ids of a training, and why each has its value."""

    ids: dict[str, Any]
    reasons: dict[str, str]

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return int(self.ids["max_epochs"] * self.ids["epoch_length"])


def plan_training(dataset: LabelledDataset, statistics: DatasetStatistics, task: str) -> Plan:
    """Propose the ids of an overlay for a data set.

    Args:
        dataset: a sound data set.
        statistics: its own.
        task: what to call it.
    """
    spacing = [round(edge, 3) for edge in statistics.spacing.median]
    median, largest = (
        [size * edge / wanted for size, edge, wanted in zip(shape, statistics.spacing.median, spacing, strict=True)]
        for shape in (statistics.shape.median, statistics.shape.maximum)
    )
    window = fitted(median, WINDOW_VOXELS)
    roi = [max(pair) for pair in zip(fitted(largest, ROI_VOXELS), window, strict=True)]
    batch = min(max(round(STEP_VOXELS / prod(window)), 1), LARGEST_BATCH)
    subjects = len({case.subject for case in dataset.cases})
    folds = min(max(subjects // 2, FEWEST_FOLDS), MOST_FOLDS)
    trained = len(dataset.cases) * (folds - 1) / folds
    epoch_length = max(ceil(trained / batch), 1)
    epochs = max(round(STEPS / epoch_length), 1)
    whole = window == fitted(median, prod(map(ceil, median)) * STRIDE**3)
    ids: dict[str, Any] = {
        "task": task,
        "pixdim": spacing,
        "window": window,
        "roi_size": roi,
        "network_def#position_grid": [length // STRIDE for length in window],
        "batch_size": batch,
        "epoch_length": epoch_length,
        "max_epochs": epochs,
        "val_interval": max(epochs // 2, 1),
        "num_folds": folds,
    }
    reasons = {
        "pixdim": "mm, the median spacing of the images",
        "window": f"the median image, {_shape(median)} voxels, in multiples of {STRIDE}"
        + ("" if whole else f", made smaller to {prod(window)} voxels; see own_data.md on crops that find structures"),
        "roi_size": "the largest image, as far as memory goes",
        "network_def#position_grid": f"window / {STRIDE}",
        "batch_size": f"about {STEP_VOXELS} voxels a step, as the hippocampus model had",
        "epoch_length": f"each of {trained:.0f} training cases once an epoch",
        "max_epochs": f"about {STEPS} steps, as the hippocampus model's first training had",
        "num_folds": f"{subjects} subjects",
    }
    if dataset.modality.lower() in FIXED_UNITS:
        lower, upper = (statistics.foreground.percentiles[key] for key in ("0.5", "99.5"))
        limits = {"a_min": lower, "a_max": upper, "b_min": 0.0, "b_max": 1.0, "clip": True}
        ids[f"preprocessing#transforms#{SCALING}"] = {"_target_": "ScaleIntensityRanged", "keys": "image", **limits}
        reason = f"{dataset.modality} has a unit: the 0.5 and 99.5 percentiles of the labelled voxels"
        reasons[f"preprocessing#transforms#{SCALING}"] = reason
    if any(label.side for label in dataset.table):
        reasons["augmentation"] = "no flips from left to right, since labels have sides"
    return Plan(ids, reasons)


def fitted(shape: Sequence[float], voxels: int) -> list[int]:
    """Return the smallest multiples of ``STRIDE`` that hold a shape, made shorter until they have so many voxels."""
    size = [max(ceil(length / STRIDE), 1) * STRIDE for length in shape]
    while prod(size) > voxels and max(size) > STRIDE:
        size[size.index(max(size))] -= STRIDE
    return size


def _shape(lengths: Sequence[float]) -> str:
    return " x ".join(f"{length:.0f}" for length in lengths)
