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
DPI = 120
BOX_HEIGHT = 0.34  # of a row
MAX_POINTS = 60  # cases; beyond, points hide the boxes
STEPS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Dice at which the axis may start."""
INK = "#222222"
HATCH = "/////"
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
DARK = 90  # of 255; a black line would not be seen


@dataclass(frozen=True)
class Row:
    """A line of the plot: its name, and the indices of one structure, or of a left and a right one."""

    name: str
    indices: tuple[int, ...]


def draw_dice(
    cases: Sequence[CaseScores], table: Sequence[Label], path: str | Path, title: str = "", overwrite: bool = True
) -> None:
    """Draw the Dice of all cases as a PNG: boxes are quartiles, whiskers reach 1.5 times the box, points are cases.

    Args:
        cases: at least one, from one ``Scorer``.
        table: the structures, background first; their colours fill the boxes.
        path: the PNG to write.
        title: a line above the plot.
        overwrite: replace an existing file.

    Raises:
        ExistsError: when the file exists and ``overwrite`` is false.
    """
    # Here and not above: only a run that asks for a picture pays for loading matplotlib.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dice = metric_values(cases, "dice")
    labels = [score.label for score in cases[0].structures]
    rows = structure_rows(labels, table)
    with rc_context({"font.family": "DejaVu Sans", "hatch.linewidth": 0.7}):
        figure = Figure(figsize=(WIDTH, ROW_HEIGHT * len(rows) + MARGINS), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for position, row in enumerate(rows):
            offsets = (0.0,) if len(row.indices) == 1 else (-0.19, 0.19)
            for side, (index, offset) in enumerate(zip(row.indices, offsets, strict=True)):
                _draw_box(axes, position + offset, dice[:, index], labels[index], hatched=side == 1)
        _dress(axes, rows, dice, title)
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


def _draw_box(axes: Any, position: float, values: NDArray[np.float64], label: Label, hatched: bool) -> None:
    values = values[np.isfinite(values)]
    if not len(values):
        return
    # matplotlib 3.10 renamed the option
    renamed = "orientation" in signature(axes.boxplot).parameters
    lying: dict[str, Any] = {"orientation": "horizontal"} if renamed else {"vert": False}
    colour = tuple(channel / 255 for channel in label.colour)
    dark = float(np.dot(label.colour, LUMINANCE)) < DARK
    axes.boxplot(
        [values],
        positions=[position],
        **lying,
        widths=BOX_HEIGHT,
        patch_artist=True,
        showfliers=len(values) > MAX_POINTS,
        manage_ticks=False,
        boxprops={"facecolor": colour, "edgecolor": INK, "linewidth": 0.8, "hatch": HATCH if hatched else None},
        medianprops={"color": "white" if dark else "black", "linewidth": 1.8},
        whiskerprops={"color": INK, "linewidth": 0.8},
        capprops={"color": INK, "linewidth": 0.8},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": INK},
    )
    if len(values) <= MAX_POINTS:
        points: dict[str, Any] = {"s": 9, "facecolor": "white", "edgecolor": "black", "linewidth": 0.7, "zorder": 3}
        axes.scatter(values, np.full(len(values), position), **points)


def _dress(axes: Any, rows: list[Row], dice: NDArray[np.float64], title: str) -> None:
    """Set names, limits, grid and the mean of every box."""
    lowest = float(np.nanmin(dice)) if np.isfinite(dice).any() else 0.0
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
        columns = [dice[:, index] for index in row.indices]
        means = [f"{np.nanmean(c):.3f}" if np.isfinite(c).any() else "none" for c in columns]
        axes.text(1.015, position, "  ".join(means), transform=beside, fontsize=8, color=INK, va="center")
    if title:
        axes.set_title(title, fontsize=11, loc="left", pad=16, parse_math=False)


def _legend(axes: Any, rows: list[Row]) -> None:
    """Say which box is which side, where there are sides."""
    from matplotlib.patches import Patch

    if any(len(row.indices) == 2 for row in rows):
        style: dict[str, Any] = {"facecolor": "white", "edgecolor": INK, "linewidth": 0.8}
        handles = [Patch(label="left", **style), Patch(label="right", hatch=HATCH, **style)]
        axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9, frameon=False)
