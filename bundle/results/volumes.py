"""Volumes of the structures in a label map, and the table that holds them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.io.geometry import voxel_volume
from bundle.io.whole import whole_file
from bundle.labels import Label

LabelArray = NDArray[Any]
"""A label map: whole numbers of any type, shape (X, Y, Z)."""

COLUMNS = ("code", "name", "voxels", "volume_mm3", "touches_border")


@dataclass(frozen=True)
class StructureVolume:
    """One row of the volume table.

    ``touches_border`` is true when the structure reaches the outermost slice of the field of view on any side: part of
    it may lie outside, and ``volume_mm3`` is then a lower bound (TotalSegmentator issue 204).
    """

    code: int
    name: str
    voxels: int
    volume_mm3: float
    touches_border: bool


def structure_volumes(label_map: LabelArray, affine: NDArray[Any], table: Sequence[Label]) -> list[StructureVolume]:
    """Measure each structure of a label map.

    Args:
        label_map: integer codes, shape (X, Y, Z).
        affine: voxel to world in mm, shape (4, 4); may be oblique, sheared or left-handed.
        table: the structures, background first.

    Returns:
        One row per structure in the table's order, background left out, absent structures with 0 voxels.

    Raises:
        ValueError: when the label map is not 3D or not of integers, holds codes that the table does not know, or the
            affine is not an invertible (4, 4) matrix.
    """
    voxel_mm3 = voxel_volume(affine)
    voxels = count_voxels(label_map, table)
    on_border = _border_codes(label_map)
    return [
        StructureVolume(
            code=label.code,
            name=label.name,
            voxels=voxels[label.code],
            volume_mm3=voxels[label.code] * voxel_mm3,
            touches_border=label.code in on_border,
        )
        for label in table[1:]
    ]


def count_voxels(label_map: LabelArray, table: Sequence[Label]) -> Counter[int]:
    """Count the voxels of each code in a label map, shape (X, Y, Z), after checking it against the table.

    Raises:
        ValueError: when the label map is not 3D or not of integers, or holds codes that the table does not know.
    """
    if label_map.ndim != 3:
        raise ValueError(f"label_map: must have 3 dimensions, found shape {label_map.shape}.")
    if not np.issubdtype(label_map.dtype, np.integer):
        raise ValueError(f"label_map: must be integer codes, found dtype {label_map.dtype}.")
    voxels: Counter[int] = Counter()
    # Slice by slice: np.unique sorts a copy, which for a whole large scan would double the memory in use.
    for plane in label_map:
        codes, counts = np.unique(plane, return_counts=True)
        voxels.update(dict(zip(codes.tolist(), counts.tolist(), strict=True)))
    unknown = sorted(set(voxels) - {label.code for label in table})
    if unknown:
        raise ValueError(f"label_map: codes {unknown} are not in the label table.")
    return voxels


def write_volumes(rows: Sequence[StructureVolume], path: str | Path, overwrite: bool = False) -> None:
    """Write the volume table as tab-separated text, one structure a line, volumes in mm³ with three decimals.

    Raises:
        ExistsError: when the file exists and ``overwrite`` is false.
    """
    with whole_file(path, overwrite) as unfinished, open(unfinished, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            border = "true" if row.touches_border else "false"
            writer.writerow((row.code, row.name, row.voxels, f"{row.volume_mm3:.3f}", border))


def _border_codes(label_map: LabelArray) -> set[int]:
    """Return the codes found on the six outermost slices of a label map, shape (X, Y, Z)."""
    faces = [np.take(label_map, end, axis=axis) for axis in range(3) for end in (0, -1)]
    return {code for face in faces for code in np.unique(face).tolist()}
