"""From logits on the network's grid to a label map on the scan's grid.

Class probabilities are interpolated linearly and the largest taken, voxel by voxel of the scan. Full-size
probabilities are never held (MONAI #6427). Where the scan's axes run along the grid's, ``bundle.inference.aligned``
takes them one after another. Where they do not: if all eight neighbours on the network's grid agree, their class is the
answer, since an average of vectors with the same largest entry has it too; only the other voxels are interpolated.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bundle.inference.aligned import PLANES, Affine, aligned_axes, restore_aligned
from bundle.inference.logits import Logits
from bundle.inference.streamed import notes_of
from bundle.inference.winners import winners_of
from bundle.labels import DEFAULT_TABLE, channel_codes, read_labels, renamed_keywords
from bundle.results.probabilities import soft_key
from bundle.results.quality import quality_key

SLAB_VOXELS = 1_000_000
PROBABILITY_BYTES = 1 << 27
"""Of the probabilities that are held at a time: a third of those of a head."""
MIXED = -1
MOST_CLASSES = 32767
"""Of channels in int16."""


def _agreed_class(classes: Tensor) -> Tensor:
    """Return for each cell of eight neighbours their class, or ``MIXED``, shape (X - 1, Y - 1, Z - 1)."""
    agreed = classes
    for axis in range(3):
        length = agreed.shape[axis] - 1
        low, high = agreed.narrow(axis, 0, length), agreed.narrow(axis, 1, length)
        agreed = torch.where(low == high, low, MIXED)
    return agreed


def _labelled_box(classes: Tensor, to_scan: Affine, shape: Sequence[int]) -> list[tuple[int, int]] | None:
    """Return the index range of the scan that can hold labels, or ``None`` when nothing was labelled."""
    filled = classes.nonzero()
    if not len(filled):
        return None
    low, high = filled.amin(0).tolist(), filled.amax(0).tolist()
    corners = np.array(list(product(*((a - 1, b + 1) for a, b in zip(low, high, strict=True)))))
    corners = corners @ to_scan[:3, :3].T + to_scan[:3, 3]
    first, last = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    box = [(max(a, 0), min(b + 1, n)) for a, b, n in zip(first.tolist(), last.tolist(), shape, strict=True)]
    return box if all(a < b for a, b in box) else None


def grid_positions(to_grid: Affine, box: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """Return the place of each voxel of the box on the network's grid, shape (3, X, Y, Z)."""
    matrix = torch.from_numpy(to_grid)
    axes = [torch.arange(a, b, dtype=torch.float64) for a, b in box]
    rows = []
    for row in range(3):
        x, y, z = (matrix[row, axis] * axes[axis] for axis in range(3))
        rows.append((x[:, None, None] + matrix[row, 3]) + (y[None, :, None] + z[None, None, :]))
    return torch.stack(rows).to(device=device, dtype=torch.float32)


def _interpolate(probabilities: Tensor, grid: Sequence[int], base: Tensor, fraction: Tensor) -> Tensor:
    """Return the class with the largest interpolated probability, shape (K,).

    Args:
        probabilities: shape (X * Y * Z, classes) on the network's grid.
        grid: X, Y, Z.
        base: lowest neighbour of each voxel, shape (3, K), int64.
        fraction: way to the next neighbour, shape (3, K).
    """
    index, weight = corners_of(base, fraction, grid)
    return functional.embedding_bag(index, probabilities, per_sample_weights=weight, mode="sum").argmax(dim=1)


def corners_of(base: Tensor, fraction: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the indices of the eight neighbours of voxels on a flattened grid, and their weights, shape (K, 8)."""
    corners = torch.tensor(list(product((0, 1), repeat=3)), device=base.device)  # (8, 3)
    index = torch.zeros(base.shape[1], len(corners), dtype=torch.int64, device=base.device)
    weight = torch.ones(base.shape[1], len(corners), device=base.device)
    for axis in range(3):
        step = corners[:, axis]
        index = index * grid[axis] + (base[axis, :, None] + step).clamp(max=grid[axis] - 1)
        weight = weight * torch.where(step == 1, fraction[axis, :, None], 1 - fraction[axis, :, None])
    return index, weight


def cells_of(position: Tensor, grid: Sequence[int], first_plane: int, planes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the lowest neighbours of places on a grid, counted from a plane, and the ways to the next ones.

    Args:
        position: shape (3, K).
        grid: shape of the grid.
        first_plane: the plane that counts as 0.
        planes: how many there are.

    Returns:
        Shape (3, K) both, and whether a place lies in the grid and between two of the planes, shape (K,).
    """
    last = torch.tensor(grid, device=position.device, dtype=torch.float32)[:, None] - 1
    inside = ((position >= -0.5) & (position <= last + 0.5)).all(dim=0)
    position = position.clamp(min=0).minimum(last)
    base = position.floor().minimum((last - 1).clamp(min=0))
    cell = base.long()
    cell[0] -= first_plane
    inside &= (cell[0] >= 0) & (cell[0] < planes - 1)
    cell[0].clamp_(0, planes - 2)
    return cell, position - base, inside


def _restore_anywhere(
    logits: Tensor, to_grid: Affine, channels: Tensor, slab_voxels: int, depth: int, first_plane: int
) -> None:
    """Write to ``channels`` the class of each voxel of a scan that lies in any way between planes of the logits.

    Args:
        logits: shape (classes, X, Y, Z), planes of a grid.
        to_grid: voxel of the scan to voxel of the grid.
        channels: shape of the scan.
        slab_voxels: voxels of the scan worked on at a time.
        depth: planes of the whole grid.
        first_plane: index on the grid of the first plane of the logits.
    """
    grid = list(logits.shape[1:])
    classes = winners_of(logits).to(torch.int16)
    to_planes = to_grid.copy()
    to_planes[0, 3] -= first_plane
    box = _labelled_box(classes, np.linalg.inv(to_planes), channels.shape)
    if box is None:
        return
    agreed = _agreed_class(classes).flatten()
    probabilities = logits.float().flatten(1).t().softmax(dim=1)  # (X * Y * Z, classes)
    (first, end), *plane = box
    planes = max(1, slab_voxels // max(1, (plane[0][1] - plane[0][0]) * (plane[1][1] - plane[1][0])))
    for start in range(first, end, planes):
        slab = [(start, min(start + planes, end)), *plane]
        position = grid_positions(to_grid, slab, logits.device).flatten(1)  # (3, K)
        cell, fraction, inside = cells_of(position, [depth, *grid[1:]], first_plane, grid[0])
        result = agreed[(cell[0] * (grid[1] - 1) + cell[1]) * (grid[2] - 1) + cell[2]]
        mixed = ((result == MIXED) & inside).nonzero()[:, 0]
        for part in torch.split(mixed, slab_voxels // 4 or 1):
            winner = _interpolate(probabilities, grid, cell[:, part], fraction[:, part])
            result[part] = winner.to(result.dtype)
        written = channels[slab[0][0] : slab[0][1], slab[1][0] : slab[1][1], slab[2][0] : slab[2][1]]
        inside = inside.view(written.shape)
        written[inside] = result.view(written.shape)[inside].to(written.dtype)


def restore_labels(
    logits: Tensor,
    affine: Affine,
    scan_affine: Affine,
    scan_shape: Sequence[int],
    slab_voxels: int = SLAB_VOXELS,
) -> Tensor:
    """Resample class probabilities to the scan and take the largest, slab by slab.

    Args:
        logits: shape (classes, X, Y, Z), every axis at least 2.
        affine: voxel to mm of the logits' grid, 4 x 4.
        scan_affine: voxel to mm of the scan, 4 x 4.
        scan_shape: shape of the scan.
        slab_voxels: voxels of the scan worked on at a time.

    Returns:
        Channel of each voxel of the scan, uint8, or int16 for more than 256 classes, on the device of the logits; 0
        outside the logits' grid.

    Raises:
        ValueError: when the logits' shape is not as above, or has more than 32767 classes.
    """
    if logits.dim() != 4 or logits.shape[0] > MOST_CLASSES or min(logits.shape[1:]) < 2:
        shape = tuple(logits.shape)
        raise ValueError(f"logits must have the shape (at most {MOST_CLASSES} classes, X, Y, Z), got {shape}.")
    to_grid = np.linalg.inv(affine) @ scan_affine
    found = Logits(logits)
    channels = empty_channels(scan_shape, found)
    restore_planes(found, to_grid, channels, logits.shape[1], slab_voxels=slab_voxels)
    return channels


def empty_channels(scan_shape: Sequence[int], logits: Logits) -> Tensor:
    """Return an array of the scan's shape for the channels of some logits, all background, on their device."""
    return torch.zeros(tuple(scan_shape), dtype=logits.dtype, device=logits.device)


def restore_planes(
    logits: Logits,
    to_grid: Affine,
    channels: Tensor,
    depth: int,
    first_plane: int = 0,
    slab_voxels: int = SLAB_VOXELS,
    winners: Tensor | None = None,
) -> None:
    """Write the class of each voxel of a scan that lies between some planes of the network's grid.

    Planes that follow one another may come apart, the last one of each again as the first of the next: the result is
    the same.

    Args:
        logits: of planes (X, Y, Z) of the grid.
        to_grid: voxel of the scan to voxel of the grid, 4 x 4.
        channels: shape of the scan, written to.
        depth: planes of the whole grid.
        first_plane: index on the grid of the first plane of the logits.
        slab_voxels: voxels of the scan worked on at a time.
        winners: the likeliest class of each voxel of the logits, shape (X, Y, Z), where it is known.
    """
    axes = aligned_axes(to_grid, torch.Size([depth, *logits.shape[2:]]), tuple(channels.shape))
    if axes is not None:
        plane = channels.numel() // channels.shape[axes[0].scan_axis]
        planes = min(PLANES, slab_voxels // max(1, plane), PROBABILITY_BYTES // logits.plane_bytes)
        restore_aligned(logits, axes, channels, max(1, planes), first_plane, winners)
        return
    planes = max(1, PROBABILITY_BYTES // logits.plane_bytes)
    for start in range(0, logits.shape[1] - 1, planes):
        part = logits.of(slice(start, start + planes + 1), slice(None), slice(None))
        _restore_anywhere(part, to_grid, channels, slab_voxels, depth, first_plane + start)


class RestoreLabelMapd(MapTransform):
    """Replace logits by a label map with the structures' codes, on the grid of the file that was read.

    Args:
        keys: logits, shape (classes, X, Y, Z), or a streamed result.
        image_key: the preprocessed image that the logits belong to, a ``MetaTensor`` that knows its affine, the
            affine of its file (``original_affine``) and the shape of its file (``spatial_shape``).
        label_table: path of the label table.
    """

    @renamed_keywords(labels="label_table")
    def __init__(self, keys: KeysCollection, image_key: str = "image", label_table: str | Path = DEFAULT_TABLE) -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.codes = channel_codes(read_labels(label_table))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with int16 numpy label maps of the file's shape, in the file's order."""
        result = dict(data)
        image = result[self.image_key]
        for key in self.key_iterator(result):
            value = result[key].as_subclass(torch.Tensor)
            if (notes := notes_of(result[key])) is not None:
                result[key], result[soft_key(key)] = self._in_codes(value), notes.maps
                result[quality_key(key)] = notes.quality
                continue
            channels = restore_labels(
                value,
                np.asarray(image.affine, dtype=np.float64),
                np.asarray(image.meta["original_affine"], dtype=np.float64),
                [int(length) for length in image.meta["spatial_shape"]],
            )
            result[key] = self._in_codes(channels)
        return result

    def _in_codes(self, channels: Tensor) -> NDArray[np.int16]:
        codes: NDArray[np.int16] = self.codes[np.asfortranarray(channels.cpu().numpy())]
        return codes
