"""A sheet of samples as a training sees them: slices with and without the outlines of their structures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bundle.io.whole import whole_file
from bundle.labels import Label

PLANES = (0, 1, 2)  # sagittal, coronal, axial


def draw_contact_sheet(
    samples: Sequence[tuple[NDArray[np.float32], NDArray[np.uint8]]],
    table: Sequence[Label],
    path: str | Path,
    title: str = "",
    overwrite: bool = True,
) -> None:
    """Draw two samples a row: a sagittal, coronal and axial slice of the image, and the same with its labels.

    Args:
        samples: image and channel map of each, shape (X, Y, Z), in RAS.
        table: the structures, for their colours.
        path: PNG to write.
        title: line above the sheet.
        overwrite: replace an existing file.

    Raises:
        ExistsError: when the file exists and ``overwrite`` is false.
    """
    rows = -(-len(samples) // 2)
    figure = Figure(figsize=(15, 1.52 * rows + 0.3), facecolor="black", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, color="white", fontsize=11)
    colours = ListedColormap([tuple(value / 255 for value in label.colour) for label in table])
    axes = figure.subplots(rows, 12, squeeze=False, gridspec_kw={"wspace": 0.01, "hspace": 0.02})
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (image, channels) in enumerate(samples):
        row = axes[number // 2][6 * (number % 2) :]
        for plane in PLANES:
            middle = image.shape[plane] // 2
            slice_, shown = (np.take(volume, middle, plane).T for volume in (image, channels))
            for axis in (row[2 * plane], row[2 * plane + 1]):
                axis.imshow(slice_, cmap="gray", origin="lower", vmin=0, vmax=1)
            masked = np.ma.masked_equal(shown, 0)  # type: ignore[no-untyped-call]
            row[2 * plane + 1].imshow(
                masked, cmap=colours, origin="lower", vmin=-0.5, vmax=len(table) - 0.5, alpha=0.6, interpolation="none"
            )
    with whole_file(path, overwrite) as unfinished:
        canvas.print_png(unfinished)  # type: ignore[no-untyped-call]
