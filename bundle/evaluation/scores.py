"""Scores of a label map against its reference, structure by structure, by MONAI's metrics.

Conventions, which every table and picture made from these scores follows:

- A structure that neither side has is not counted (NaN). Where one side has it, Dice and NSD are 0 and HD95 is inf;
  the volume error in % is -100 when it was missed, and not counted when the reference is empty.
- HD95 is the larger of the two directed 95th percentiles; NSD counts surface voxels within the tolerance (MONAI's
  ``use_subvoxels=False``, arXiv 2111.05408). Both are measured in mm between voxel centres.
- Voxels whose reference code is ignored become background on both sides before anything is measured, as MONAI's
  ``ignore_index`` has it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from bundle.errors import InputError, OptionError
from bundle.io.geometry import voxel_volume
from bundle.io.label_map import check_same_grid, read_label_map
from bundle.label_groups import Groups, grouped_codes
from bundle.labels import Label, side_partners

NSD_TOLERANCE = 1.0
"""mm."""
HD_PERCENTILE = 95
DISTANCE_ROUNDING = 1e-4
"""mm; a spacing read as 1.0000001 must not put the neighbouring voxel beyond a tolerance of 1 mm."""
MAX_UNKNOWN_CODES = 256
"""More codes outside the table than this, and the file is an image."""

Box = tuple[slice, ...]
Codes = NDArray[Any]
Mask = NDArray[np.bool_]
Affine = NDArray[np.float64]


@dataclass(frozen=True)
class StructureScore:
    """One structure of one case.

    Attributes:
        label: the structure.
        dice: overlap, 0 to 1.
        nsd: normalised surface Dice at the tolerance, 0 to 1.
        hd95_mm: 95th percentile of the Hausdorff distance.
        volume_error_mm3: predicted volume minus reference volume.
        volume_error_percent: the same, of the reference volume.
        reference_mm3: reference volume, ignored voxels left out.
        predicted_mm3: predicted volume, ignored voxels left out.
        mirrored_share: share of the reference's voxels predicted as the structure's counterpart on the other side,
            NaN on the midline and where the reference is empty.
    """

    label: Label
    dice: float = float("nan")
    nsd: float = float("nan")
    hd95_mm: float = float("nan")
    volume_error_mm3: float = float("nan")
    volume_error_percent: float = float("nan")
    reference_mm3: float = 0.0
    predicted_mm3: float = 0.0
    mirrored_share: float = float("nan")

    @property
    def absolute_volume_error_percent(self) -> float:
        """Size of the volume error, which does not cancel out over cases."""
        return abs(self.volume_error_percent)

    @property
    def one_sided(self) -> bool:
        """Whether the prediction or the reference has the structure, and the other does not."""
        return (self.reference_mm3 == 0) != (self.predicted_mm3 == 0)


@dataclass(frozen=True)
class CaseScores:
    """All scored structures of one case, in the table's order, and the codes found on each side.

    ``unknown_codes`` are those of either that the table does not know.
    """

    case: str
    structures: tuple[StructureScore, ...]
    unknown_codes: tuple[int, ...] = ()
    predicted_codes: tuple[int, ...] = ()
    reference_codes: tuple[int, ...] = ()

    @property
    def mirrored_share(self) -> float:
        """Share of the reference's left and right voxels predicted as the counterpart on the other side."""
        sided = [score for score in self.structures if np.isfinite(score.mirrored_share)]
        volume = sum(score.reference_mm3 for score in sided)
        return sum(score.mirrored_share * score.reference_mm3 for score in sided) / volume if sided else float("nan")


class Scorer:
    """Scores label maps with one set of rules.

    Args:
        table: the structures, background first.
        ignore: reference codes whose voxels are left out of everything; these codes are not scored either.
        unscored: codes of structures that are not scored; to the other structures they are background.
        tolerance_mm: what NSD accepts.
        groups: codes by structure, see :mod:`bundle.label_groups`, where references have them apart.

    Raises:
        OptionError: when nothing is left to score or the tolerance is negative.
    """

    def __init__(
        self,
        table: Sequence[Label],
        ignore: Sequence[int] = (),
        unscored: Sequence[int] = (),
        tolerance_mm: float = NSD_TOLERANCE,
        groups: Groups | None = None,
    ) -> None:
        self.groups = groups
        self.table = list(table)
        self.ignore = tuple(sorted({int(code) for code in ignore}))
        self.unscored = tuple(sorted({int(code) for code in unscored}))
        self.tolerance_mm = float(tolerance_mm)
        left_out = {*self.ignore, *self.unscored}
        self.scored = [label for label in self.table[1:] if label.code not in left_out]
        self.mirrored = side_partners(self.table)
        if not self.scored:
            raise OptionError("label table", "found no structure to score", "one that is not left out is wanted")
        if not self.tolerance_mm >= 0:
            raise OptionError("tolerance_mm", f"found {tolerance_mm}", "0 or more is wanted")

    def score_files(
        self, case: str, prediction: str | Path, reference: str | Path, assume_affine: bool = False
    ) -> CaseScores:
        """Score one file against another on the same grid.

        Raises:
            InputError: when a file cannot be used, or the two lie on different grids.
        """
        predicted = read_label_map(prediction, assume_affine)
        expected = read_label_map(reference, assume_affine)
        check_same_grid(predicted.grid, expected.grid)
        for label_map in (predicted, expected):
            self._check_codes(label_map.codes, label_map.grid.path)
        return self.score(case, predicted.codes, expected.codes, expected.grid.affine)

    def score(self, case: str, predicted: Codes, reference: Codes, affine: Affine) -> CaseScores:
        """Score integer codes against the reference's, both of shape (X, Y, Z).

        Args:
            case: name of the case.
            predicted: codes.
            reference: codes.
            affine: voxel to world in mm, (4, 4).

        Raises:
            ValueError: when the shapes differ.
        """
        if predicted.shape != reference.shape:
            raise ValueError(f"{case}: found shape {predicted.shape}; {reference.shape} of the reference is wanted.")
        predicted, reference = (grouped_codes(codes, self.groups) for codes in (predicted, reference))
        found = [self._channels(codes) for codes in (predicted, reference)]
        ignored = np.isin(reference, self.ignore) if self.ignore else None
        sides: list[tuple[int, ...]] = []
        unknown: set[int] = set()
        for (channels, is_unknown), codes in zip(found, (predicted, reference), strict=True):
            if ignored is not None:
                channels[ignored] = 0
                is_unknown &= ~ignored
            others = np.unique(codes[is_unknown]).tolist()
            unknown.update(others)
            there = np.flatnonzero(np.bincount(channels.ravel(), minlength=len(self.table)))
            sides.append(tuple(sorted({*(self.table[channel].code for channel in there), *others})))
        structures = self._structures(found[0][0], found[1][0], affine)
        return CaseScores(case, structures, tuple(sorted(unknown)), *sides)

    def _structures(self, predicted: Codes, reference: Codes, affine: Affine) -> tuple[StructureScore, ...]:
        """Score channels, (X, Y, Z), each structure in the box that holds it on both sides."""
        boxes = [find_objects(channels, len(self.table) - 1) for channels in (predicted, reference)]
        scores = []
        for label in self.scored:
            box = _joined(boxes[0][label.channel - 1], boxes[1][label.channel - 1])
            if box is None:
                scores.append(StructureScore(label))
                continue
            there, here = predicted[box], reference[box]
            mirror = self.mirrored[label.channel]
            mirrored = there == mirror if mirror != label.channel else None
            scores.append(self._structure(label, there == label.channel, here == label.channel, mirrored, affine))
        return tuple(scores)

    def _structure(
        self,
        label: Label,
        predicted: Mask,
        reference: Mask,
        mirrored: Mask | None,
        affine: Affine,
    ) -> StructureScore:
        """Score masks of one shape, at least one of them not empty."""
        first, second = (int(np.count_nonzero(mask)) for mask in (predicted, reference))
        voxel_mm3 = voxel_volume(affine)
        volumes = {
            "reference_mm3": second * voxel_mm3,
            "predicted_mm3": first * voxel_mm3,
            "volume_error_mm3": (first - second) * voxel_mm3,
            "volume_error_percent": 100 * (first - second) / second if second else float("nan"),
        }
        if mirrored is not None and second:
            volumes["mirrored_share"] = np.count_nonzero(mirrored & reference) / second
        if not first or not second:
            return StructureScore(label, 0.0, 0.0, float("inf"), **volumes)
        # (1, 1, X, Y, Z) each
        pred, true = (torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (predicted, reference))
        spacing = voxel_sizes(affine).tolist()
        tolerance = self.tolerance_mm + DISTANCE_ROUNDING
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)  # MONAI's own
            nsd = compute_surface_dice(pred, true, [tolerance], include_background=True, spacing=spacing)
            hd95 = compute_hausdorff_distance(
                pred, true, include_background=True, percentile=HD_PERCENTILE, spacing=spacing
            )
        return StructureScore(label, compute_dice(pred, true).item(), nsd.item(), hd95.item(), **volumes)

    def _channels(self, codes: Codes) -> tuple[NDArray[np.uint16], Mask]:
        """Return each voxel's channel, 0 where the table does not know its code, and where that is so."""
        known = np.array([label.code for label in self.table])
        low, high = int(known.min()) - 1, int(known.max()) + 1
        lookup = np.full(high - low + 1, len(self.table), dtype=np.uint16)
        lookup[known - low] = [label.channel for label in self.table]
        channels = lookup[np.clip(codes.astype(np.int32), low, high) - low]
        unknown = channels == len(self.table)
        channels[unknown] = 0
        return channels, unknown

    def _check_codes(self, codes: Codes, path: Path) -> None:
        """Raise when a file holds so many unknown codes that it must be an image."""
        found = np.unique(codes[self._channels(codes)[1]])
        if len(found) > MAX_UNKNOWN_CODES:
            unknown = f"found {len(found)} codes that the table does not know"
            raise InputError(path, unknown, "a label map is wanted", "labels")


def _joined(first: Box | None, second: Box | None) -> Box | None:
    """Return the smallest box that holds both."""
    if first is None or second is None:
        return first or second
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
