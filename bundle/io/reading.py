"""How a scan was read, as it travels beside the image to whatever writes its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bundle.io.read import Volume

NO_FRAME = -1
"""MONAI's collation takes numbers and texts, not ``None``."""


@dataclass(frozen=True)
class Reading:
    """The options of :func:`bundle.io.read.read_volume` that a file needed, and what came of them.

    Attributes:
        fill_nonfinite, frame, trust: as there.
        filled: voxels that were NaN or Inf and became 0.
        affine_source: ``"sform"``, ``"qform"`` or ``"assumed"``; empty where another reader was used.
        form_degrees, form_mm: rotation and shift between the sform and the qform; 0 where only one can be used.
    """

    fill_nonfinite: bool = False
    frame: int | None = None
    trust: str = ""
    filled: int = 0
    affine_source: str = ""
    form_degrees: float = 0.0
    form_mm: float = 0.0


AS_STORED = Reading()


def reading_metadata(volume: Volume, fill_nonfinite: bool, frame: int | None, trust: str) -> dict[str, Any]:
    """Return what :func:`reading_of` reads, in numbers and texts that MONAI's collation takes."""
    difference = volume.grid.form_difference
    return {
        "fill_nonfinite": int(fill_nonfinite),
        "frame": NO_FRAME if frame is None else frame,
        "trust": trust,
        "filled": volume.filled,
        "affine_source": volume.grid.source,
        "form_degrees": difference.degrees if difference else 0.0,
        "form_mm": difference.mm if difference else 0.0,
    }


def reading_of(meta: Mapping[str, Any]) -> Reading:
    """Return how an image was read from its metadata; images of other readers were read as they are stored."""
    frame = int(meta.get("frame", NO_FRAME))
    return Reading(
        fill_nonfinite=bool(meta.get("fill_nonfinite", 0)),
        frame=None if frame == NO_FRAME else frame,
        trust=str(meta.get("trust", "")),
        filled=int(meta.get("filled", 0)),
        affine_source=str(meta.get("affine_source", "")),
        form_degrees=float(meta.get("form_degrees", 0.0)),
        form_mm=float(meta.get("form_mm", 0.0)),
    )
