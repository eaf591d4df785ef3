"""Class probabilities on the scan's grid, plane by plane, for those classes whose maps are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bundle.errors import OptionError
from bundle.inference.aligned import PLANES, Affine, Axis, aligned_axes, interpolate
from bundle.inference.logits import Logits
from bundle.inference.restore import PROBABILITY_BYTES, cells_of, corners_of, grid_positions
from bundle.io.scratch import out_of_memory
from bundle.labels import DEFAULT_TABLE, Label
from bundle.results.probabilities import STEPS, ProbabilityMaps

SLAB_VOXELS = 500_000


def map_channels(
    codes: Sequence[int] | str | None, table: Sequence[Label], label_table: str | Path = DEFAULT_TABLE
) -> list[int]:
    """Return the classes whose maps are wanted, in the order given; all but the background for ``"all"``.

    Raises:
        OptionError: when the table has no such code.
    """
    if codes is None or isinstance(codes, str):
        if codes not in (None, "all"):
            raise OptionError("probabilities", f"found {codes!r}", "codes of the label table, or all, are wanted")
        return [label.channel for label in table[1:]] if codes else []
    channels = {label.code: label.channel for label in table}
    for code in codes:
        if code not in channels:
            found = f"has no structure with the code {code}"
            raise OptionError(label_table, found, "codes of the table are wanted as probabilities", "labels")
    return list(dict.fromkeys(channels[code] for code in codes))


def add_planes(maps: ProbabilityMaps, logits: Logits, to_grid: Affine, depth: int, first_plane: int) -> None:
    """Write the probabilities of the scan's voxels between some planes of the grid, see ``restore_planes``.

    Args:
        maps: written to.
        logits: of planes (X, Y, Z) of the grid.
        to_grid: voxel of the scan to voxel of the grid, 4 x 4.
        depth: planes of the whole grid.
        first_plane: index on the grid of the first plane of the logits.
    """
    shape = maps.values.shape[:3]
    axes = aligned_axes(to_grid, torch.Size([depth, *logits.shape[2:]]), shape)
    planes = max(1, min(PLANES, PROBABILITY_BYTES // logits.plane_bytes))
    for start in range(0, logits.shape[1] - 1, planes):
        part = logits.of(slice(start, start + planes + 1), slice(None), slice(None))
        probabilities = part.float().softmax(dim=0)[list(maps.channels)]
        if axes is not None:
            _along(maps, probabilities, axes, first_plane + start)
        else:
            _anywhere(maps, probabilities, to_grid, depth, first_plane + start)
        out_of_memory(maps.values)


def _along(maps: ProbabilityMaps, probabilities: Tensor, axes: list[Axis], first_plane: int) -> None:
    """Interpolate axis by axis."""
    first, end = axes[0].between_planes(first_plane, first_plane + probabilities.shape[1] - 1)
    ranges = [(first, end), *((axis.first, axis.end) for axis in axes[1:])]
    if any(low >= high for low, high in ranges):
        return
    device = probabilities.device
    ways = [(axis.lower[low:high].to(device), axis.fraction[low:high].to(device))
            for axis, (low, high) in zip(axes, ranges, strict=True)]  # fmt: skip
    turned = maps.values.transpose([*(axis.scan_axis for axis in axes), 3])
    place = tuple(slice(low, high) for low, high in ranges)
    for number, values in enumerate(probabilities):
        values = interpolate(values, 0, ways[0][0] - first_plane, ways[0][1])
        values = interpolate(interpolate(values, 1, *ways[1]), 2, *ways[2])
        maps.sums[number] += float(values.double().sum())
        turned[..., number][place] = _steps(values)


def _anywhere(maps: ProbabilityMaps, probabilities: Tensor, to_grid: Affine, depth: int, first_plane: int) -> None:
    """Interpolate voxel by voxel."""
    shape = maps.values.shape[:3]
    grid = list(probabilities.shape[1:])
    flat = probabilities.flatten(1).t().contiguous()  # (X * Y * Z, N)
    rows = max(1, SLAB_VOXELS // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], rows):
        box = [(start, min(start + rows, shape[0])), (0, shape[1]), (0, shape[2])]
        position = grid_positions(to_grid, box, flat.device).flatten(1)
        cell, fraction, inside = cells_of(position, [depth, *grid[1:]], first_plane, grid[0])
        chosen = inside.nonzero()[:, 0]
        if not len(chosen):
            continue
        index, weight = corners_of(cell[:, chosen], fraction[:, chosen], grid)
        values = torch.nn.functional.embedding_bag(index, flat, per_sample_weights=weight, mode="sum")  # (K, N)
        maps.sums += values.double().sum(dim=0).cpu().numpy()
        place = np.unravel_index(chosen.cpu().numpy(), [high - low for low, high in box])
        maps.values[place[0] + start, place[1], place[2]] = _steps(values)


def _steps(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return (values * STEPS).round_().clamp_(0, STEPS).to(torch.uint8).cpu().numpy()
