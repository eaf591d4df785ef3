"""The legend of a picture: names and colours, left and right merged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bundle.labels import Label
from bundle.results.page import Pixels

SWATCH = 14
"""Side of a square of colour, in pixels."""
SWATCH_EDGE = (110, 110, 110)

Colour = tuple[int, int, int]


def legend_entries(present: Sequence[Label]) -> list[tuple[str, list[Colour]]]:
    """Return the legend's names and colours, left and right merged: ``("Thalamus (L, R)", [left, right])``."""
    merged: dict[str, list[Label]] = {}
    for label in present:
        merged.setdefault(label.name_without_side, []).append(label)
    entries = []
    for name, labels in merged.items():
        sides = ", ".join(label.side[0].upper() for label in labels if label.side)
        entries.append((f"{name} ({sides})" if sides else name, [label.colour for label in labels]))
    return entries


def swatch(colours: Sequence[Colour]) -> Pixels:
    """Return a legend square, one vertical stripe a colour, shape (SWATCH, SWATCH, 3), 8 bit."""
    stripes = np.array(colours, dtype=np.uint8)[np.arange(SWATCH) * len(colours) // SWATCH]
    square = np.repeat(stripes[None], SWATCH, axis=0)
    for edge in (square[0], square[-1], square[:, 0], square[:, -1]):
        edge[:] = SWATCH_EDGE
    return square
