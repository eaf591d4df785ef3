"""The picture of a training: loss, validation metric and learning rate over the steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike, NDArray

from bundle.io.whole import whole_file

Curve = NDArray[np.float64]

SMOOTHED_SHARE = 0.03  # of all steps go into a point of the smoothed loss
LOSS_COLOUR, METRIC_COLOUR, RATE_COLOUR = "#1f5fa8", "#2a8a4a", "#8a4a2a"


def draw_training_curve(path: Path, steps: ArrayLike, metrics: ArrayLike, metric_name: str | None) -> None:
    """Draw the course of a training as PNG.

    Args:
        path: the file to write.
        steps: loss and learning rate of each step, shape (steps, 2).
        metrics: step and value of each validation, shape (validations, 2); may be empty.
        metric_name: name of the value.
    """
    losses, rates = np.asarray(steps, dtype=float).T
    validations = np.asarray(metrics, dtype=float).reshape(-1, 2)
    figure = Figure(
        figsize=(9, 7.5 if len(validations) else 5.5), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    )
    FigureCanvasAgg(figure)
    heights = [3, 3, 1.2] if len(validations) else [3, 1.2]
    axes = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)[:, 0]

    _draw_loss(axes[0], losses)
    if len(validations):
        _draw_metric(axes[1], validations, metric_name or "metric")
    axes[-1].plot(np.arange(1, len(rates) + 1), rates, color=RATE_COLOUR)
    axes[-1].set(ylabel="learning rate", xlabel="step", xlim=(0, len(rates) + 1), ylim=(0, None))
    axes[-1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    for panel in axes:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels(axes)

    with whole_file(path, overwrite=True) as unfinished:
        figure.savefig(unfinished, dpi=120, format="png")


def smooth(values: Curve, width: int) -> Curve:
    """Return the mean over ``width`` values around each; fewer at both ends."""
    width = min(width, len(values))
    kernel = np.ones(width)
    sums, counts = (np.convolve(part, kernel, "same") for part in (values, np.ones_like(values)))
    mean: Curve = sums / counts
    return mean


def _draw_loss(panel: Axes, losses: Curve) -> None:
    count = np.arange(1, len(losses) + 1)
    width = max(1, round(SMOOTHED_SHARE * len(losses)))
    if width == 1:
        panel.plot(count, losses, color=LOSS_COLOUR, marker=".", label="each step")
    else:
        panel.plot(count, losses, color=LOSS_COLOUR, alpha=0.25, linewidth=0.7, label="each step")
        panel.plot(count, smooth(losses, width), color=LOSS_COLOUR, linewidth=1.8, label=f"mean of {width} steps")
    panel.set(ylabel="training loss")
    # A few steps at the start are far above the rest and would press it flat.
    low, high = losses.min(), np.quantile(losses, 0.995)
    if high > low:
        panel.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    panel.legend(frameon=False, loc="upper right")


def _draw_metric(panel: Axes, validations: Curve, name: str) -> None:
    step, value = validations.T
    panel.plot(step, value, color=METRIC_COLOUR, marker="o", markersize=4, clip_on=False)
    panel.set(ylabel=name.replace("_", " "))
    if np.isfinite(value).any():
        best = int(np.nanargmax(value))
        panel.plot(step[best], value[best], "o", markersize=9, fillstyle="none", color="black", clip_on=False)
        panel.set_title(f"best {value[best]:.4f} at step {step[best]:.0f}", fontsize=10, loc="right")
