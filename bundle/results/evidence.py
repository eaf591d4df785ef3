"""What flags are judged by: volumes, places and intensities of the structures that were found in a scan.

Places and intensities are taken from every second voxel or so of a fine scan: medians and centres need no more, and the
evidence then costs a fraction of a second whatever the scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from numpy.typing import NDArray
from scipy import ndimage

from bundle.labels import Label
from bundle.results.layout import misplacement
from bundle.results.reference import Reference
from bundle.results.totals import BRAIN, CEREBELLUM, FLUID, STEM, VENTRICLES, total_volumes
from bundle.results.volumes import StructureVolume, border_areas

SAMPLE_MM = 2.0
"""Voxels finer than this are skipped."""
SPAN_PERCENTILES = (2.0, 98.0)
"""Of the labelled voxels: what counts as the contrast of the image, whatever its units."""
DEPTH_MM, RIM_MM, DEPTH_SAMPLE_MM = 14.0, 8.0, 4.0
"""What counts as the depth of the cerebrum and as its rim, from its surface, and the voxels that this is taken on."""
TOUCHING = np.ones((3, 3, 3), dtype=bool)

Centre = NDArray[np.float64]
"""World coordinates, mm, RAS+, shape (3,)."""


@dataclass(frozen=True)
class Piece:
    """Labelled tissue that does not hang together with the bulk of the brain."""

    structure: str
    volume_mm3: float
    distance_mm: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """A scan, its label map and what follows from them.

    Attributes:
        image: intensities, shape (X, Y, Z).
        label_map: codes, shape (X, Y, Z).
        affine: voxel to world, mm, RAS+, shape (4, 4).
        table: the structures, background first.
        rows: their volumes, in the table's order.
        dropped_mm3: volume that each structure lost because it lay apart from the rest of it, by code.
        apart_mm3: volume of each structure in large pieces apart from its main one, kept or lost, by code.
        references: volumes that are usual, by code.
        affine_source: what gave the affine, as in ``bundle.io.Grid``.
    """

    image: NDArray[Any]
    label_map: NDArray[Any]
    affine: NDArray[np.float64]
    table: Sequence[Label]
    rows: Sequence[StructureVolume]
    dropped_mm3: Mapping[int, float] = field(default_factory=dict)
    apart_mm3: Mapping[int, float] = field(default_factory=dict)
    references: Mapping[int, Reference] = field(default_factory=dict)
    affine_source: str = "sform"

    @cached_property
    def volumes(self) -> dict[int, float]:
        """mm³ by code."""
        return {row.code: row.volume_mm3 for row in self.rows}

    @cached_property
    def totals(self) -> dict[str, float | None]:
        """mm³ by name, see ``bundle.results.totals``."""
        return total_volumes(self.volumes, self.table)

    @cached_property
    def border_mm2(self) -> dict[int, float]:
        """Area on the border of the field of view by code."""
        return border_areas(self.label_map, self.affine)

    @cached_property
    def _steps(self) -> NDArray[np.int64]:
        """Every how many voxels a sample is taken, (3,)."""
        steps: NDArray[np.int64] = np.floor(SAMPLE_MM / voxel_sizes(self.affine) + 1e-6).astype(np.int64)
        return steps.clip(min=1)

    def _sampled(self, volume: NDArray[Any]) -> NDArray[Any]:
        return volume[tuple(slice(None, None, step) for step in self._steps)]

    @cached_property
    def _codes(self) -> NDArray[Any]:
        return self._sampled(self.label_map)

    @cached_property
    def _positions(self) -> dict[int, tuple[int, Centre]]:
        """Samples and mean world position of each code that is there, background left out."""
        inside = np.argwhere(self._codes != self.table[0].code)  # (K, 3)
        codes = self._codes[tuple(inside.T)]
        world = apply_affine(self.affine, inside * self._steps)
        found, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
        sums = np.stack([np.bincount(index.ravel(), weights=world[:, axis], minlength=len(found)) for axis in range(3)])
        means = sums.T / counts[:, None]
        return {int(code): (int(count), mean) for code, count, mean in zip(found, counts, means, strict=True)}

    def codes_in(self, *regions: str) -> list[int]:
        """Return the codes of the structures in some regions."""
        return [label.code for label in self.table[1:] if label.region in regions]

    def centre(self, codes: Iterable[int]) -> Centre | None:
        """Return the centre of several structures together, ``None`` when none of them is there."""
        there = [self._positions[code] for code in codes if code in self._positions]
        if not there:
            return None
        counts = np.array([count for count, _ in there], dtype=np.float64)
        return np.asarray(counts @ np.stack([mean for _, mean in there]) / counts.sum())

    def median(self, codes: Sequence[int]) -> float | None:
        """Return the median intensity of several structures together, ``None`` when none of them is there."""
        values = self._sampled(self.image)[np.isin(self._codes, codes)]
        return float(np.median(values)) if values.size else None

    @cached_property
    def intensity_span(self) -> float:
        """Contrast of the image inside the labels, in its own units; 0 without any."""
        values = self._sampled(self.image)[self._codes != self.table[0].code]
        return float(np.subtract(*np.percentile(values, SPAN_PERCENTILES[::-1]))) if values.size else 0.0

    def misplacement(self, codes: Iterable[int]) -> float | None:
        """Return how far some structures lie from where they belong, see ``bundle.results.layout``, mm."""
        usual = {code: np.array(self.references[code].centre) for code in codes if code in self.references}
        there = {code: mean for code, (_, mean) in self._positions.items()}
        return misplacement(there, usual) if usual else None

    def depth_contrast(self) -> float | None:
        """Return how much brighter the depth of the cerebrum is than its rim, as a share of ``intensity_span``.

        Only the outline of the brain and what lies under it count, not what was called white or grey matter.
        ``None`` where there is no depth or no contrast.
        """
        lengths = voxel_sizes(self.affine)
        steps = np.floor(DEPTH_SAMPLE_MM / lengths + 1e-6).astype(np.int64).clip(min=1)
        grid = tuple(slice(None, None, step) for step in steps)
        codes, image = self.label_map[grid], self.image[grid]
        head = np.pad(np.isin(codes, self.codes_in(*BRAIN, VENTRICLES)), 2)
        # Sulci and what is enclosed belong to the inside.
        head = ndimage.binary_fill_holes(ndimage.binary_closing(head, TOUCHING))
        depth = ndimage.distance_transform_edt(head, sampling=lengths * steps)[2:-2, 2:-2, 2:-2]
        cerebrum = ~np.isin(codes, self.codes_in(VENTRICLES, CEREBELLUM, STEM))
        rim, deep = (image[cerebrum & part] for part in ((depth > 0) & (depth <= RIM_MM), depth >= DEPTH_MM))
        if not (rim.size and deep.size and self.intensity_span):
            return None
        return float(np.median(deep) - np.median(rim)) / self.intensity_span

    def pieces_apart(self, smallest_mm3: float) -> list[Piece]:
        """Return the pieces of labelled tissue, fluid around the brain left out, apart from the largest one."""
        fluid = self.codes_in(FLUID)
        tissue = ~np.isin(self._codes, [self.table[0].code, *fluid])
        pieces, count = ndimage.label(tissue, TOUCHING)
        sample_mm3 = float(abs(np.linalg.det(self.affine[:3, :3])) * self._steps.prod())
        sizes = np.bincount(pieces.ravel(), minlength=1) * sample_mm3
        sizes[0] = 0.0
        bulk = int(sizes.argmax())
        apart = [piece for piece in range(1, count + 1) if piece != bulk and sizes[piece] >= smallest_mm3]
        if not apart:
            return []
        spacing = voxel_sizes(self.affine) * self._steps
        distances = ndimage.distance_transform_edt(pieces != bulk, sampling=spacing)
        names = {label.code: label.name for label in self.table}
        boxes = ndimage.find_objects(pieces)
        found = []
        for piece in apart:
            box = boxes[piece - 1]
            inside = pieces[box] == piece
            codes, counts = np.unique(self._codes[box][inside], return_counts=True)
            name = names[int(codes[counts.argmax()])]
            found.append(Piece(name, float(sizes[piece]), float(distances[box][inside].min())))
        return found
