"""Training label maps: read, oriented to RAS, cropped to the head, coded as tissue classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import center_of_mass
from torch import Tensor

from bundle.labels import Label, mirrored_channels

# Codes that are drawn with an intensity of their own and scored as the structure they lie in: white matter lesions,
# choroid plexus (lateral and inferior horn), vessels, the fifth ventricle.
PART_OF = {25: 2, 57: 41, 136: 4, 163: 43, 137: 5, 164: 44, 30: 2, 62: 41, 72: 4}
CSF_CODE = 24
WHITE_CODES, CORTEX_CODES = (2, 41), (3, 42)
# Too large or too thin to have a centre that means anything: white matter, cortex, fluid, cerebellum.
SPREAD_OUT_CODES = (2, 3, 7, 8, 24, 41, 42, 46, 47)
VENTRICLE_CODES = (4, 5, 14, 43, 44)  # lateral ventricles with their inferior horns, third ventricle
FIRST_HEAD_CODE = 500


@dataclass(frozen=True)
class ClassTable:
    """What each generation class (one per code in the label maps) stands for.

    Attributes:
        codes: FreeSurfer code of each class, ascending; class 0 is the background.
        channels: network channel of each class, shape (classes,).
        mirrored: channel of the structure on the other side, shape (channels,).
        is_brain: whether a class is brain tissue or ventricle, shape (classes,).
        is_ventricle: whether a class belongs to the lateral or third ventricles, shape (classes,).
    """

    codes: tuple[int, ...]
    channels: Tensor
    mirrored: Tensor
    is_brain: Tensor
    is_ventricle: Tensor

    @classmethod
    def from_codes(cls, codes: Sequence[int], table: Sequence[Label]) -> ClassTable:
        """Build the table for the codes found in the label maps."""
        channel_of = {label.code: label.channel for label in table}
        ordered = tuple(sorted({0, *codes}))
        return cls(
            codes=ordered,
            channels=torch.tensor([channel_of.get(PART_OF.get(code, code), 0) for code in ordered]),
            mirrored=torch.tensor(mirrored_channels(list(table))),
            is_brain=torch.tensor([0 < code < FIRST_HEAD_CODE and code != CSF_CODE for code in ordered]),
            is_ventricle=torch.tensor([PART_OF.get(code, code) in VENTRICLE_CODES for code in ordered]),
        )


@dataclass(frozen=True)
class LabelMap:
    """One label map.

    Attributes:
        classes: generation classes, shape (X, Y, Z), uint8, in RAS.
        spacing: mm along each axis.
        brain_centre: centre of the brain in voxels.
        centres: centres of the compact structures in mm from the brain's centre, shape (structures, 3).
    """

    classes: Tensor
    spacing: Tensor
    brain_centre: Tensor
    centres: Tensor


def _read_ras(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj).astype(np.int16), np.array(image.header.get_zooms()[:3], dtype=np.float64)


def _extent(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and last filled index along each axis."""
    filled = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return [(int(indices[0]), int(indices[-1])) for indices in filled]


def _crop_to_head(codes: np.ndarray, margin: int = 4) -> np.ndarray:
    extent = _extent(codes > 0)
    return codes[tuple(slice(max(low - margin, 0), high + margin + 1) for low, high in extent)]


def _centres(classes: np.ndarray, wanted: Sequence[int]) -> Tensor:
    """Return the centre of each wanted class that is there, in voxels, shape (found, 3); every second voxel counts."""
    half = classes[::2, ::2, ::2]
    found = center_of_mass(np.ones_like(half), half, np.intersect1d(wanted, half))
    return 2 * torch.tensor(found, dtype=torch.float32).reshape(-1, 3)


def find_label_maps(folder: str | Path) -> list[str]:
    """Return the NIfTI files of a folder, sorted.

    Raises:
        FileNotFoundError: when the folder holds none.
    """
    paths = sorted(str(path) for pattern in ("*.nii", "*.nii.gz") for path in Path(folder).glob(pattern))
    if not paths:
        raise FileNotFoundError(f"{folder}: no label map found; a folder with NIfTI files is wanted (dataset_dir).")
    return paths


def load_label_maps(paths: Sequence[str | Path], table: Sequence[Label]) -> tuple[list[LabelMap], ClassTable]:
    """Read label maps.

    Args:
        paths: NIfTI files with FreeSurfer codes; codes from 500 on are head tissues outside the brain.
        table: the structures that the network tells apart.
    """
    volumes = [_read_ras(path) for path in paths]
    found = {int(code) for codes, _ in volumes for code in np.flatnonzero(np.bincount(codes.ravel()))}
    class_table = ClassTable.from_codes(sorted(found), table)
    class_of = np.zeros(max(class_table.codes) + 1, dtype=np.uint8)
    class_of[list(class_table.codes)] = np.arange(len(class_table.codes), dtype=np.uint8)

    maps = []
    for codes, spacing in volumes:
        classes = class_of[np.ascontiguousarray(_crop_to_head(codes))]
        extent = _extent(class_table.is_brain.numpy()[classes])
        centre = torch.tensor([(low + high) / 2 for low, high in extent])
        compact = [
            number
            for number, code in enumerate(class_table.codes)
            if class_table.is_brain[number] and code not in SPREAD_OUT_CODES
        ]
        centres = (_centres(classes, compact) - centre) * torch.from_numpy(spacing).float()
        maps.append(LabelMap(torch.from_numpy(classes), torch.from_numpy(spacing).float(), centre, centres))
    return maps, class_table


def class_weights(maps: Sequence[LabelMap], class_table: ClassTable, power: float = 0.5) -> Tensor:
    """Return each channel's frequency inside the head to the power of ``-power``, mean 1, shape (channels,)."""
    counts = torch.zeros(len(class_table.mirrored))
    for label_map in maps:
        per_class = torch.bincount(label_map.classes.flatten(), minlength=len(class_table.codes)).float()
        counts.index_add_(0, class_table.channels, per_class)
    counts = (counts + counts[class_table.mirrored]) / 2  # flips make both sides equally frequent
    weights = counts.clamp(min=1).pow(-power)
    return weights / weights.mean()
