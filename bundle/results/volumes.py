"""Volumes of the structures in a label map, and the table that holds them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.io.geometry import voxel_volume
from bundle.io.whole import whole_file
from bundle.labels import Label, side_partners
from bundle.results.reference import Reference
from bundle.results.totals import FLUID, total_volumes

LabelArray = NDArray[Any]
"""A label map: whole numbers of any type, shape (X, Y, Z)."""

COLUMNS = (
    "code",
    "name",
    "voxels",
    "volume_mm3",
    "touches_border",
    "fraction",
    "asymmetry",
    "z",
    "confidence",
    "flags",
)


MOST_CODES = 1 << 16
"""Range of codes up to which each has a counter; beyond it they are sorted."""
QUALITY_COLUMN = "quality"
"""After the others, where the network predicts it."""
SOFT_COLUMN = "soft_volume_mm3"
"""The last column, where there are probability maps."""


@dataclass(frozen=True)
class StructureVolume:
    """One row of the volume table.

    ``touches_border`` is true when the structure reaches the outermost slice of the field of view on any side: part of
    it may lie outside, and ``volume_mm3`` is then a lower bound (TotalSegmentator issue 204). ``fraction`` is the share
    of the intracranial volume (``bundle.results.totals``), ``None`` where the table has none. ``asymmetry`` is the
    difference of left and right over their mean, -2 (right alone) to 2 (left alone), the same in both rows of a pair;
    ``None`` on the midline, and where neither was found. ``expected_mm3`` is the usual volume in a head of this size
    and ``z`` how far the volume lies off it (``bundle.results.reference``), ``None`` without a reference, ``z`` also
    where the structure was not found. ``confidence`` is the mean margin of its voxels
    (``bundle.inference.confidence``), ``None`` where nobody measured it. ``soft_mm3`` is the sum of its probabilities
    times the volume of a voxel, ``None`` without a probability map. ``quality`` is the Dice that is predicted of its
    group (``bundle.results.quality``), ``None`` where nothing predicts it.
    """

    code: int
    name: str
    voxels: int
    volume_mm3: float
    touches_border: bool
    fraction: float | None = None
    asymmetry: float | None = None
    expected_mm3: float | None = None
    z: float | None = None
    confidence: float | None = None
    soft_mm3: float | None = None
    quality: float | None = None


def structure_volumes(
    label_map: LabelArray,
    affine: NDArray[Any],
    table: Sequence[Label],
    references: Mapping[int, Reference] | None = None,
    confidence: Mapping[int, float] | None = None,
    soft: Mapping[int, float] | None = None,
    quality: Mapping[int, float] | None = None,
) -> list[StructureVolume]:
    """Measure each structure of a label map.

    Args:
        label_map: integer codes, shape (X, Y, Z).
        affine: voxel to world in mm, shape (4, 4); may be oblique, sheared or left-handed.
        table: the structures, background first.
        references: what is usual, by code.
        confidence: how sure the network was of each structure, by code.
        soft: volume by probabilities, mm³ by code.
        quality: predicted Dice by code.

    Returns:
        One row per structure in the table's order, background left out, absent structures with 0 voxels.

    Raises:
        ValueError: when the label map is not 3D or not of integers, holds codes that the table does not know, or the
            affine is not an invertible (4, 4) matrix.
    """
    voxel_mm3 = voxel_volume(affine)
    voxels = count_voxels(label_map, table)
    on_border = border_areas(label_map, affine)
    volumes = {label.code: voxels[label.code] * voxel_mm3 for label in table[1:]}
    intracranial = total_volumes(volumes, table)["intracranial"]
    asymmetry = _asymmetries(volumes, table)
    expected = _expected(volumes, table, references or {})
    return [
        StructureVolume(
            code=label.code,
            name=label.name,
            voxels=voxels[label.code],
            volume_mm3=volumes[label.code],
            touches_border=label.code in on_border,
            fraction=volumes[label.code] / intracranial if intracranial else None,
            asymmetry=asymmetry[label.code],
            expected_mm3=expected.get(label.code),
            z=_z(volumes[label.code], expected.get(label.code), (references or {}).get(label.code)),
            confidence=(confidence or {}).get(label.code),
            soft_mm3=(soft or {}).get(label.code),
            quality=(quality or {}).get(label.code),
        )
        for label in table[1:]
    ]


def _z(volume: float, expected: float | None, reference: Reference | None) -> float | None:
    return None if expected is None or reference is None else reference.z(volume, expected)


def _expected(
    volumes: Mapping[int, float], table: Sequence[Label], references: Mapping[int, Reference]
) -> dict[int, float]:
    """Return the usual volume of each structure in a head of this size, mm³ by code.

    References are shares of the volume inside the skull. Where less fluid around the brain was labelled than is usual,
    a stripping tool may have taken it: tissue is then compared with a head that has the usual share.
    """
    intracranial = total_volumes(volumes, table)["intracranial"]
    if not intracranial:
        return {}
    fluid = [label.code for label in table[1:] if label.region == FLUID]
    usual = sum(references[code].fraction for code in fluid if code in references)
    inside = max(intracranial, (intracranial - sum(volumes[code] for code in fluid)) / (1 - usual))
    return {
        code: reference.typical * (intracranial if code in fluid else inside)
        for code, reference in references.items()
        if code in volumes
    }


def _asymmetries(volumes: Mapping[int, float], table: Sequence[Label]) -> dict[int, float | None]:
    """Return the difference of left and right over their mean for the code of each structure."""
    found: dict[int, float | None] = {}
    for label, partner in zip(table, side_partners(table), strict=True):
        if partner == label.channel:
            found[label.code] = None
            continue
        pair = (label, table[partner]) if label.side == "left" else (table[partner], label)
        left, right = (volumes[side.code] for side in pair)
        found[label.code] = 2 * (left - right) / (left + right) if left + right else None
    return found


def count_voxels(label_map: LabelArray, table: Sequence[Label]) -> Counter[int]:
    """Count the voxels of each code in a label map, shape (X, Y, Z), after checking it against the table.

    Raises:
        ValueError: when the label map is not 3D or not of integers, or holds codes that the table does not know.
    """
    if label_map.ndim != 3:
        raise ValueError(f"label_map: must have 3 dimensions, found shape {label_map.shape}.")
    if not np.issubdtype(label_map.dtype, np.integer):
        raise ValueError(f"label_map: must be integer codes, found dtype {label_map.dtype}.")
    voxels = _count(label_map)
    unknown = sorted(set(voxels) - {label.code for label in table})
    if unknown:
        raise ValueError(f"label_map: codes {unknown} are not in the label table.")
    return voxels


def _count(label_map: LabelArray) -> Counter[int]:
    """Count the voxels of each code, slice by slice as they lie in memory: what is counted is a copy in 64 bits."""
    planes = label_map.T if label_map.flags.f_contiguous else label_map
    low, high = (int(end) for end in (label_map.min(), label_map.max())) if label_map.size else (0, 0)
    if high - low >= MOST_CODES:
        voxels: Counter[int] = Counter()
        for plane in planes:
            voxels.update(dict(zip(*(part.tolist() for part in np.unique(plane, return_counts=True)), strict=True)))
        return voxels
    counts = np.zeros(high - low + 1, dtype=np.int64)
    for plane in planes:
        counts += np.bincount(plane.ravel().astype(np.int64) - low, minlength=len(counts))
    return Counter({low + code: int(counts[code]) for code in np.flatnonzero(counts).tolist()})


def write_volumes(
    rows: Sequence[StructureVolume],
    path: str | Path,
    overwrite: bool = False,
    flags: Mapping[int, Sequence[str]] | None = None,
) -> None:
    """Write the volume table as tab-separated text, one structure a line, volumes in mm³ with three decimals.

    Args:
        rows: the structures.
        path: the file.
        overwrite: replace an existing file.
        flags: codes of the flags of each structure, by its code.

    Raises:
        ExistsError: when the file exists and ``overwrite`` is false.
    """
    with whole_file(path, overwrite) as unfinished, open(unfinished, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        softly, judged = (any(getattr(row, name) is not None for row in rows) for name in ("soft_mm3", "quality"))
        writer.writerow((*COLUMNS, *((QUALITY_COLUMN,) * judged), *((SOFT_COLUMN,) * softly)))
        for row in rows:
            border = "true" if row.touches_border else "false"
            numbers = ((row.fraction, 6), (row.asymmetry, 4), (row.z, 2), (row.confidence, 4))
            shares = ("" if value is None else f"{value:.{digits}f}" for value, digits in numbers)
            codes = ";".join((flags or {}).get(row.code, ()))
            soft = ["" if row.soft_mm3 is None else f"{row.soft_mm3:.3f}"] if softly else []
            quality = ["" if row.quality is None else f"{row.quality:.3f}"] if judged else []
            fixed = (row.code, row.name, row.voxels, f"{row.volume_mm3:.3f}", border)
            writer.writerow((*fixed, *shares, codes, *quality, *soft))


def border_areas(label_map: LabelArray, affine: NDArray[Any]) -> dict[int, float]:
    """Return the mm² that each code found there covers on the six outermost faces of a label map, shape (X, Y, Z)."""
    edges = np.asarray(affine, dtype=np.float64)[:3, :3].T
    areas: Counter[int] = Counter()
    for axis in range(3):
        voxel_mm2 = float(np.linalg.norm(np.cross(edges[(axis + 1) % 3], edges[(axis + 2) % 3])))
        for end in (0, -1):
            codes, counts = np.unique(np.moveaxis(label_map, axis, 0)[end], return_counts=True)
            for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
                areas[code] += count * voxel_mm2
    return dict(areas)
