"""Training label maps: read, oriented to RAS, cropped to the head, coded as tissue classes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass
from torch import Tensor

from bundle.errors import InputError, MissingError
from bundle.io.label_map import read_label_map
from bundle.io.orientation import ras_affine, to_ras
from bundle.labels import MAX_CODE, Label, side_partners
from bundle.machine import available_cores
from bundle.synthesis.tissues import TissueTable, read_tissues

MAX_CLASSES = 256
"""Generation classes are kept as uint8; the background is one of them."""
MOST_THREADS = 8
"""To read label maps with: each holds a volume or two."""


@dataclass(frozen=True)
class ClassTable:
    """What each generation class (one per code in the label maps) stands for.

    Attributes:
        codes: FreeSurfer code of each class, ascending; class 0 is the background.
        tissues: what each code looks like, and what it belongs to.
        channels: network channel of each class, shape (classes,).
        mirrored: channel of the structure on the other side, its own where there is none, shape (channels,).
        is_brain: whether a class is brain tissue or ventricle, shape (classes,).
        is_ventricle: whether a class belongs to the lateral or third ventricles, shape (classes,).
        is_csf: whether a class is fluid outside the brain, shape (classes,).
    """

    codes: tuple[int, ...]
    tissues: TissueTable
    channels: Tensor
    mirrored: Tensor
    is_brain: Tensor
    is_ventricle: Tensor
    is_csf: Tensor

    @classmethod
    def from_codes(cls, codes: Sequence[int], table: Sequence[Label], tissues: TissueTable | None = None) -> ClassTable:
        """Build the table for the codes found in the label maps.

        Args:
            codes: the codes.
            table: the structures that the network tells apart; what is none of them becomes background.
            tissues: what the codes look like; those of ``configs/tissues.tsv`` by default.
        """
        tissues = read_tissues() if tissues is None else tissues
        channel_of = {label.code: label.channel for label in table}
        ordered = tuple(sorted({0, *codes}))
        return cls(
            codes=ordered,
            tissues=tissues,
            channels=torch.tensor([channel_of.get(tissues[code].part_of, 0) for code in ordered]),
            mirrored=torch.tensor(side_partners(table)),
            is_brain=torch.tensor([tissues.is_brain(code) for code in ordered]),
            is_ventricle=torch.tensor([tissues[code].role == "ventricle" for code in ordered]),
            is_csf=torch.tensor([tissues[code].role == "csf" for code in ordered]),
        )


@dataclass(frozen=True)
class Anatomy:
    """One label map.

    Attributes:
        classes: generation classes, shape (X, Y, Z), uint8, in RAS.
        spacing: mm along each axis.
        brain_centre: centre of the brain in voxels.
        centres: centres of the compact structures in mm from the brain's centre, shape (structures, 3).
        ignored: whether voxels of a class count neither in the loss nor in a score, shape (classes,); ``None`` where
            all count.
        name: of its file.
    """

    classes: Tensor
    spacing: Tensor
    brain_centre: Tensor
    centres: Tensor
    ignored: Tensor | None = None
    name: str = ""

    def to(self, device: torch.device | str) -> Anatomy:
        """Return the label map on a device."""
        ignored = None if self.ignored is None else self.ignored.to(device)
        classes, spacing = self.classes.to(device), self.spacing.to(device)
        return Anatomy(classes, spacing, self.brain_centre.to(device), self.centres.to(device), ignored, self.name)


def _read_ras(path: str | Path) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Return the codes of a label map, axes towards R, A, S, and its voxels' edges in mm along them."""
    label_map = read_label_map(path)
    codes = to_ras(label_map.codes, label_map.grid.affine)
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high > MAX_CODE:
        raise _unusable(path, f"found codes from {low} to {high}", f"0 to {MAX_CODE} are wanted")
    if high == 0:
        raise _unusable(path, "found no labelled voxel", "at least one structure is wanted")
    affine = ras_affine(label_map.grid.affine, label_map.codes.shape)
    return codes.astype(np.int16), np.linalg.norm(affine[:3, :3], axis=0)


def _own_codes(codes: NDArray[np.int16]) -> list[int]:
    """Return the codes of a label map, ascending."""
    own: list[int] = np.flatnonzero(np.bincount(codes.ravel())).tolist()
    return own


def _found_codes(own_codes: Sequence[Sequence[int]], paths: Sequence[str | Path]) -> list[int]:
    """Return the codes of all label maps, ascending, from those of each."""
    found = {0}
    for own, path in zip(own_codes, paths, strict=True):
        found.update(own)
        if len(found) > MAX_CLASSES:
            counted = f"found {len(own)} codes, {len(found)} with those of the files before it"
            raise _unusable(path, counted, f"at most {MAX_CLASSES - 1} and the background are wanted")
    return sorted(found)


def _check_sides(codes: Sequence[int], table: Sequence[Label], path: str | Path) -> None:
    """Refuse label maps that number their structures in another way than the label table does.

    Small numbers mean something in every numbering (2 is white matter of the left here), but another one's are not both
    sides of a structure: in FreeSurfer's, which the brain's table has, the right side starts at 41.
    """
    partners = side_partners(table)
    pairs = [
        (label.code, table[partners[label.channel]].code) for label in table if partners[label.channel] != label.channel
    ]
    if pairs and not any({*pair} <= {*codes} for pair in pairs):
        shown = ", ".join(map(str, codes[1:9])) + (", ..." if len(codes) > 9 else "")
        wanted = "label maps of brains in the codes of label_table are wanted (docs/own_data.md trains on others)"
        raise _unusable(path, f"found the codes {shown}, both sides of no structure", wanted)


def _unusable(path: str | Path, found: str, wanted: str) -> InputError:
    return InputError(path, found, wanted, "labels")


def _extent(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and last filled index along each axis."""
    filled = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return [(int(indices[0]), int(indices[-1])) for indices in filled]


def _crop_to_head(codes: NDArray[np.int16], margin: int = 4) -> NDArray[np.int16]:
    extent = _extent(codes > 0)
    return codes[tuple(slice(max(low - margin, 0), high + margin + 1) for low, high in extent)]


def _centres(classes: NDArray[np.uint8], wanted: Sequence[int]) -> Tensor:
    """Return the centre of each wanted class that is there, in voxels, shape (found, 3); every second voxel counts."""
    half = classes[::2, ::2, ::2]
    found = center_of_mass(np.ones_like(half), half, np.intersect1d(wanted, half))
    return 2 * torch.tensor(found, dtype=torch.float32).reshape(-1, 3)


def find_label_maps(folder: str | Path) -> list[str]:
    """Return the NIfTI files of a folder, sorted.

    Raises:
        MissingError: when the folder holds none.
    """
    paths = sorted(str(path) for pattern in ("*.nii", "*.nii.gz") for path in Path(folder).glob(pattern))
    if not paths:
        raise MissingError(folder, "no label map found", "a folder with NIfTI files is wanted (dataset_dir)")
    return paths


def load_label_maps(
    paths: Sequence[str | Path],
    table: Sequence[Label],
    tissues: TissueTable | None = None,
    more_codes: Sequence[int] = (),
) -> tuple[list[Anatomy], ClassTable]:
    """Read label maps.

    Args:
        paths: NIfTI files with FreeSurfer codes; codes from 500 on are head tissues outside the brain.
        table: the structures that the network tells apart.
        tissues: what the codes look like; those of ``configs/tissues.tsv`` by default.
        more_codes: codes that get a class though no file holds them.

    Raises:
        MissingError: when there is no file.
        InputError: when a file cannot be read, or holds fractions, codes outside 0 to 32767, more than 255 of them, or
            no brain.
    """
    if not paths:
        raise MissingError("data", "no label map found", "at least one NIfTI file is wanted")
    with ThreadPoolExecutor(min(MOST_THREADS, available_cores())) as threads:
        volumes, spacings = zip(*threads.map(_read_ras, paths), strict=True)
        codes = _found_codes(list(threads.map(_own_codes, volumes)), paths)
        _check_sides(codes, table, paths[0])
        class_table = ClassTable.from_codes([*codes, *more_codes], table, tissues)
        prepare = partial(_anatomy, class_table)
        return list(threads.map(prepare, paths, volumes, spacings)), class_table


def _anatomy(
    class_table: ClassTable, path: str | Path, codes: NDArray[np.int16], spacing: NDArray[np.float64]
) -> Anatomy:
    """Return a label map in classes, cropped to the head."""
    class_of = np.zeros(max(class_table.codes) + 1, dtype=np.uint8)
    class_of[list(class_table.codes)] = np.arange(len(class_table.codes), dtype=np.uint8)
    is_brain = class_table.is_brain.numpy()
    compact = [
        number
        for number, code in enumerate(class_table.codes)
        if is_brain[number] and class_table.tissues[code].compact
    ]
    classes = class_of[np.ascontiguousarray(_crop_to_head(codes))]
    brain = is_brain[classes]
    if not brain.any():
        raise _unusable(path, "found head tissues only", "a label map of a brain is wanted")
    centre = torch.tensor([(low + high) / 2 for low, high in _extent(brain)])
    edges = torch.from_numpy(spacing).float()
    centres = (_centres(classes, compact) - centre) * edges
    return Anatomy(torch.from_numpy(classes), edges, centre, centres, name=Path(path).name)


def class_weights(maps: Sequence[Anatomy], class_table: ClassTable, power: float = 0.5) -> Tensor:
    """Return each channel's frequency inside the head to the power of ``-power``, mean 1, shape (channels,)."""
    counts = torch.zeros(len(class_table.mirrored))
    for label_map in maps:
        per_class = torch.bincount(label_map.classes.flatten(), minlength=len(class_table.codes)).float()
        counts.index_add_(0, class_table.channels, per_class)
    counts = (counts + counts[class_table.mirrored]) / 2  # flips make both sides equally frequent
    weights = counts.clamp(min=1).pow(-power)
    return weights / weights.mean()
