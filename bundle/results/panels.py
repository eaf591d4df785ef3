"""Slices of a scene as pixels: structures filled and outlined in their colours, or the head with one outline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.labels import Label
from bundle.results.page import Pixels
from bundle.results.scene import Array, Box, Floats, Plane, Scene

FILL_ALPHA = 0.25
RIGHT_FILL_ALPHA = 0.55  # so that a swap of sides is seen at a glance
EDGE_COLOUR = (80, 220, 120)
"""Of the outline of everything that is labelled; no grey, and no structure's."""


def structure_panel(
    scene: Scene, plane: Plane, index: int, size: tuple[int, int], present: Mapping[int, Label]
) -> Pixels:
    """Return a slice of the labelled region as RGB, shape (height, width, 3): fill of its side, opaque outline.

    Args:
        scene: the scan and its label map.
        plane: how it is cut.
        index: which slice, along the plane's normal.
        size: width and height in pixels.
        present: the structures to draw by code.
    """
    panel = _grey(scene, plane, index, size, scene.labelled)
    codes = _codes(scene, plane, index, size, scene.labelled)
    if present:
        labels = sorted(present.values(), key=lambda label: label.code)
        known = np.array([label.code for label in labels])
        place = np.searchsorted(known, codes).clip(max=len(known) - 1)
        inside = known[place] == codes
        colours = np.array([label.colour for label in labels], dtype=np.float64)
        alphas = np.array([[RIGHT_FILL_ALPHA if label.side == "right" else FILL_ALPHA] for label in labels])
        filled, below = place[inside], panel[inside]
        panel[inside] = below + alphas[filled] * (colours[filled] - below)
        edge = inside & _outline(codes)
        panel[edge] = colours[place[edge]]
    return np.round(panel).astype(np.uint8)


def head_panel(scene: Scene, plane: Plane, index: int, size: tuple[int, int]) -> Pixels:
    """Return a slice of the whole field of view as RGB, shape (height, width, 3), with one outline of all labels."""
    panel = _grey(scene, plane, index, size, scene.whole)
    labelled = _codes(scene, plane, index, size, scene.whole) != scene.background
    panel[labelled & _outline(labelled)] = EDGE_COLOUR
    return np.round(panel).astype(np.uint8)


def _slice(volume: Array, plane: Plane, index: int) -> NDArray[Any]:
    """Return one slice of a volume, shape (up, right)."""
    cut: NDArray[Any] = np.moveaxis(volume, plane.normal, 0)[index].T
    return cut


def _positions(plane: Plane, size: tuple[int, int], box: Box) -> tuple[Floats, Floats]:
    """Return the voxel coordinates of the pixels from left to right and from top to bottom."""
    return box.pixel_positions(plane.right, size[0]), box.pixel_positions(plane.up, size[1])[::-1]


def _grey(scene: Scene, plane: Plane, index: int, size: tuple[int, int], box: Box) -> Floats:
    """Return the scan between the window's ends as 0 to 255, shape (height, width, 3)."""
    across, down = _positions(plane, size, box)
    values = _slice(scene.image, plane, index).astype(np.float64)
    low, high = scene.window
    shown = np.clip((np.nan_to_num(values, posinf=high, neginf=low) - low) / (high - low), 0, 1)
    grey = _linear_weights(down, shown.shape[0]) @ shown @ _linear_weights(across, shown.shape[1]).T
    return np.repeat(255.0 * grey[:, :, None], 3, axis=2)


def _codes(scene: Scene, plane: Plane, index: int, size: tuple[int, int], box: Box) -> Array:
    """Return the code at each pixel, shape (height, width)."""
    across, down = _positions(plane, size, box)
    codes = _nearest(_slice(scene.label_map, plane, index), down, scene.background)
    return _nearest(codes.T, across, scene.background).T


def _linear_weights(positions: Floats, size: int) -> Floats:
    """Return the weights, shape (pixels, size), that resample a line of voxels at voxel coordinates.

    Linear between voxel centres; where several voxels share a pixel, they are averaged. Black outside the volume.
    """
    reach = max(1.0, abs(float(positions[-1] - positions[0])) / max(1, len(positions) - 1))
    weights = np.clip(1 - np.abs(positions[:, None] - np.arange(size)) / reach, 0, None)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    weights[(positions < -0.5) | (positions >= size - 0.5)] = 0
    return weights


def _nearest(values: Array, positions: Floats, fill: int) -> Array:
    """Return the rows of a picture nearest to voxel coordinates, ``fill`` outside."""
    indices = np.floor(positions + 0.5).astype(int)
    outside = (indices < 0) | (indices >= len(values))
    rows: Array = values[np.where(outside, 0, indices)]
    rows[outside] = fill
    return rows


def _outline(codes: Array) -> NDArray[np.bool_]:
    """Return the pixels that have a neighbour of another code above, below, left or right."""
    edge = np.zeros(codes.shape, dtype=bool)
    vertical = codes[1:] != codes[:-1]
    horizontal = codes[:, 1:] != codes[:, :-1]
    edge[1:] |= vertical
    edge[:-1] |= vertical
    edge[:, 1:] |= horizontal
    edge[:, :-1] |= horizontal
    return edge
