"""What a picture shows: a scan and its label map in RAS order, the planes that cut them, the boxes that are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from numpy.typing import NDArray

from bundle.io.orientation import ras_affine, to_ras
from bundle.results.volumes import LabelArray

Array = NDArray[Any]
Floats = NDArray[np.float64]

MARGIN_MM = 15.0
"""Scan shown around the labelled region, so that tissue which was missed is seen."""
WINDOW_PERCENTILES = (1.0, 99.0)
SLICE_SPAN = (0.1, 0.9)
"""Of the labelled region: its very ends show little."""
SAMPLE_MM = 4.0
"""Voxels finer than this are skipped where the head's centre is looked for."""


@dataclass(frozen=True)
class Plane:
    """A viewing plane of a RAS volume: its normal, and the axes that run to the right and up on the page."""

    name: str
    normal: int
    right: int
    up: int


# Neurological convention: in coronal and axial panels the patient's left is on the left.
PLANES = (Plane("sagittal", 0, 1, 2), Plane("coronal", 1, 0, 2), Plane("axial", 2, 0, 1))
AXIS_NAMES = ("x", "y", "z")
AXIS_ENDS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class Box:
    """A box of voxels, ``first`` to ``last``, both included, and a margin around it."""

    first: Array  # (3,)
    last: Array  # (3,)
    spacing: Floats  # (3,), mm
    margin_mm: float = 0.0

    def extent_mm(self, axis: int) -> float:
        """Return the length of the box with its margins along an axis."""
        return float((self.last[axis] - self.first[axis] + 1) * self.spacing[axis] + 2 * self.margin_mm)

    def pixel_positions(self, axis: int, pixels: int) -> Floats:
        """Return the voxel coordinate of each of the pixels that share the box with its margins, shape (pixels,)."""
        start = self.first[axis] - 0.5 - self.margin_mm / self.spacing[axis]
        step = self.extent_mm(axis) / self.spacing[axis] / pixels
        return np.asarray(start + (np.arange(pixels) + 0.5) * step)


@dataclass(frozen=True)
class Scene:
    """A scan and its label map in RAS order."""

    image: Array  # (X, Y, Z)
    window: tuple[float, float]  # the image's values shown as black and as white
    label_map: LabelArray  # (X, Y, Z), codes
    background: int
    affine: Floats
    labelled: Box  # around all structures; the whole field of view when there is none
    whole: Box  # the field of view

    def slices(self, axis: int, count: int) -> list[int]:
        """Return up to ``count`` slice indices, evenly spread over the labelled region."""
        box = self.labelled
        steps = np.linspace(*SLICE_SPAN, count) * (box.last[axis] - box.first[axis])
        return [int(index) for index in np.unique(box.first[axis] + np.round(steps).astype(int))]

    def position_mm(self, axis: int, index: int, point: Array | None = None) -> float:
        """Return the world coordinate of a slice along an axis, at a voxel or at the labelled region's centre."""
        there = np.array((self.labelled.first + self.labelled.last) / 2 if point is None else point, dtype=np.float64)
        there[axis] = index
        return float(apply_affine(self.affine, there)[axis])

    def centre(self) -> Array:
        """Return the voxel at the centre of what is labelled, (3,); without labels, of what is bright."""
        steps = np.floor(SAMPLE_MM / self.whole.spacing).astype(int).clip(min=1)
        sampled = tuple(slice(None, None, step) for step in steps)
        inside = self.label_map[sampled] != self.background
        if not inside.any():
            inside = self.image[sampled] > np.mean(self.window)
        if not inside.any():
            return np.asarray(self.whole.last // 2)
        middle = np.round(np.argwhere(inside).mean(axis=0) * steps).astype(int)
        return np.asarray(middle.clip(max=self.whole.last))


def make_scene(image: Array, label_map: LabelArray, affine: Floats, background: int) -> Scene:
    """Return the scene of a scan and its label map, shapes (X, Y, Z), in the file's order."""
    turned_affine = ras_affine(affine, label_map.shape)
    turned = to_ras(label_map, affine)
    spacing = voxel_sizes(turned_affine)
    end = np.array(turned.shape) - 1
    return Scene(
        image=to_ras(image, affine),
        window=_window(image),
        label_map=turned,
        background=background,
        affine=turned_affine,
        labelled=Box(*_bounding_box(turned != background), spacing, MARGIN_MM),
        whole=Box(np.zeros(3, dtype=int), end, spacing),
    )


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the first and last index along each axis where a mask is true, or of the whole mask when it is empty."""
    if not mask.any():
        return np.zeros(3, dtype=int), np.array(mask.shape) - 1
    where = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    return np.array([found[0] for found in where]), np.array([found[-1] for found in where])


def _window(image: Array) -> tuple[float, float]:
    """Return the percentiles of the non-zero voxels to show as black and as white."""
    values = image.ravel(order="K")  # as they lie in memory
    shown = values[(values != 0) & np.isfinite(values)]
    low, high = np.percentile(shown, WINDOW_PERCENTILES) if shown.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 1.0, float(low))
