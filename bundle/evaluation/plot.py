"""A box plot of Dice for each structure, left and right side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.evaluation.scores import CaseScores
from bundle.evaluation.summary import metric_values
from bundle.io.whole import whole_file
from bundle.labels import Label, side_partners

WIDTH = 9.5  # inches
ROW_HEIGHT = 0.36  # inches for the one or two boxes of a structure
MARGINS = 1.35  # inches above and below the rows
TITLE_LINE = 0.2  # inches of each line beyond the first
DPI = 120
BOX_HEIGHT, BOX_DISTANCE = 0.34, 0.38  # of a row, between the centres of boxes
MAX_POINTS = 60  # cases; beyond, points hide the boxes
STEPS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Dice at which the axis may start."""
INK = "#222222"
HATCH = "/////"
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
PALE = 0.35
"""Share of its colour that a structure keeps in a second set, the rest being white."""
DARK = 90  # of 255; a black line would not be seen


@dataclass(frozen=True)
class Row:
    """A line of the plot: its name, and the indices of one structure, or of a left and a right one."""

    name: str
    indices: tuple[int, ...]


def draw_dice(
    cases: Sequence[CaseScores],
    table: Sequence[Label],
    path: str | Path,
    title: str = "",
    overwrite: bool = True,
    other: Sequence[CaseScores] = (),
) -> None:
    """Draw the Dice of all cases as a PNG: boxes are quartiles, whiskers reach 1.5 times the box, points are cases.

    Args:
        cases: at least one, from one ``Scorer``.
        table: the structures, background first; their colours fill the boxes.
        path: the PNG to write.
        title: one line or more above the plot.
        overwrite: replace an existing file.
        other: a second set from the same ``Scorer``, drawn paler below the first in each row.

    Raises:
        ExistsError: when the file exists and ``overwrite`` is false.
    """
    # Here and not above: only a run that asks for a picture pays for loading matplotlib.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = [metric_values(part, "dice") for part in (cases, other) if part]
    labels = [score.label for score in cases[0].structures]
    rows = structure_rows(labels, table)
    height = ROW_HEIGHT * len(sets) * len(rows) + MARGINS + TITLE_LINE * title.count("\n")
    with rc_context({"font.family": "DejaVu Sans", "hatch.linewidth": 0.7}):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for position, row in enumerate(rows):
            boxes = [(dice, index) for dice in sets for index in row.indices]
            for place, (dice, index) in enumerate(boxes):
                centre = position + (place - (len(boxes) - 1) / 2) * BOX_DISTANCE / len(sets)
                box = _Box(dice[:, index], labels[index].colour, index != row.indices[0], 1 / len(sets))
                box.draw(axes, centre, pale=dice is not sets[0])
        _dress(axes, rows, sets, title)
        _legend(axes, rows)
        figure.tight_layout()
        with whole_file(path, overwrite) as unfinished:
            figure.savefig(unfinished, format="png", metadata={"Software": None})


def structure_rows(labels: Sequence[Label], table: Sequence[Label]) -> list[Row]:
    """Return the rows in the order of the structures, left before right; a structure without partner has its own."""
    index_of = {label.channel: index for index, label in enumerate(labels)}
    partners = side_partners(table)
    rows: list[Row] = []
    done: set[int] = set()
    for index, label in enumerate(labels):
        if index in done:
            continue
        other = index_of.get(partners[label.channel], index)
        if other == index:
            rows.append(Row(label.name, (index,)))
        else:
            rows.append(Row(label.name_without_side, (index, other) if label.side == "left" else (other, index)))
        done.update(rows[-1].indices)
    return rows


@dataclass(frozen=True)
class _Box:
    """The Dice of a structure in a set of cases; ``scale`` is the share of a row's height that a set has."""

    values: NDArray[np.float64]
    colour: tuple[int, int, int]
    hatched: bool
    scale: float

    def draw(self, axes: Any, position: float, pale: bool) -> None:
        values = self.values[np.isfinite(self.values)]
        if not len(values):
            return
        # matplotlib 3.10 renamed the option
        renamed = "orientation" in signature(axes.boxplot).parameters
        lying: dict[str, Any] = {"orientation": "horizontal"} if renamed else {"vert": False}
        share = PALE if pale else 1.0
        shown = [channel * share + 255 * (1 - share) for channel in self.colour]
        dark = float(np.dot(shown, LUMINANCE)) < DARK
        face = tuple(channel / 255 for channel in shown)
        axes.boxplot(
            [values],
            positions=[position],
            **lying,
            widths=BOX_HEIGHT * self.scale,
            patch_artist=True,
            showfliers=len(values) > MAX_POINTS,
            manage_ticks=False,
            boxprops={"facecolor": face, "edgecolor": INK, "linewidth": 0.8, "hatch": HATCH if self.hatched else None},
            medianprops={"color": "white" if dark else "black", "linewidth": 1.8},
            whiskerprops={"color": INK, "linewidth": 0.8},
            capprops={"color": INK, "linewidth": 0.8},
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": INK},
        )
        if len(values) <= MAX_POINTS:
            points: dict[str, Any] = {"s": 9, "facecolor": "white", "edgecolor": "black", "linewidth": 0.7, "zorder": 3}
            axes.scatter(values, np.full(len(values), position), **points)


def _dress(axes: Any, rows: list[Row], sets: list[NDArray[np.float64]], title: str) -> None:
    """Set names, limits, grid and the mean of every box."""
    lowest = min((float(np.nanmin(dice)) for dice in sets if np.isfinite(dice).any()), default=0.0)
    start = max(step for step in STEPS if step <= max(lowest - 0.02, 0.0))
    axes.set_xlim(start - 0.01 * (1 - start), 1 + 0.01 * (1 - start))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=9)
    axes.set_xlabel("Dice", fontsize=10)
    axes.tick_params(axis="x", labelsize=9)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#d8d8d8", linewidth=0.8)
    axes.set_axisbelow(True)
    for position in range(1, len(rows), 2):
        axes.axhspan(position - 0.5, position + 0.5, color="#f4f4f6", zorder=0)
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    beside = axes.get_yaxis_transform()
    heading = "mean\nleft     right" if any(len(row.indices) == 2 for row in rows) else "mean"
    axes.text(1.015, -0.65, heading, transform=beside, fontsize=8, color=INK, va="bottom")
    for position, row in enumerate(rows):
        for place, dice in enumerate(sets):
            columns = [dice[:, index] for index in row.indices]
            means = [f"{np.nanmean(c):.3f}" if np.isfinite(c).any() else "none" for c in columns]
            height = position + (place - (len(sets) - 1) / 2) * BOX_DISTANCE
            axes.text(1.015, height, "  ".join(means), transform=beside, fontsize=8, color=INK, va="center")
    if title:
        axes.set_title(title, fontsize=11, loc="left", pad=16, parse_math=False)


def _legend(axes: Any, rows: list[Row]) -> None:
    """Say which box is which side, where there are sides."""
    from matplotlib.patches import Patch

    if any(len(row.indices) == 2 for row in rows):
        style: dict[str, Any] = {"facecolor": "white", "edgecolor": INK, "linewidth": 0.8}
        handles = [Patch(label="left", **style), Patch(label="right", hatch=HATCH, **style)]
        axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9, frameon=False)
