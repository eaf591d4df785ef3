"""A page of pixels and text, written as a PNG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""RGB, shape (height, width, 3)."""

FONT = "DejaVu Sans"  # comes with matplotlib, so the picture does not depend on the machine's fonts
FONT_SIZE = 13
DPI = 128  # a power of two: pixels / DPI * DPI is then exact
BACKGROUND = (16, 16, 18)
TEXT_COLOUR = (0.88, 0.88, 0.88)


@dataclass(frozen=True)
class Text:
    """A line of text at a point of the page, in pixels from the top left corner."""

    x: float
    y: float
    content: str
    size: float = FONT_SIZE
    align: str = "center"
    angle: float = 0.0
    font: str = FONT
    colour: tuple[float, float, float] = TEXT_COLOUR


class Page:
    """An 8-bit RGB canvas, shape (height, width, 3), and the text that goes on top of it."""

    def __init__(self, width: int, height: int) -> None:
        self.canvas = np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
        self.texts: list[Text] = []

    def paint(self, left: int, top: int, pixels: Pixels) -> None:
        """Put an RGB picture, shape (height, width, 3), on the canvas."""
        self.canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels

    def write(self, x: float, y: float, content: str, **style: Any) -> None:
        """Add a line of text."""
        self.texts.append(Text(x, y, content, **style))

    def save(self, path: Path) -> None:
        """Set the text with matplotlib and write the PNG."""
        # Here and not above: only a run that asks for a picture pays for loading matplotlib.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patheffects import withStroke
        from PIL import Image

        height, width, _ = self.canvas.shape
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="none")
        halo = [withStroke(linewidth=2 * 72 / DPI, foreground="black")]
        for text in self.texts:
            figure.text(
                text.x / width,
                1 - text.y / height,
                text.content,
                family=text.font,
                fontsize=text.size * 72 / DPI,
                color=text.colour,
                horizontalalignment=text.align,
                verticalalignment="center_baseline",
                rotation=text.angle,
                parse_math=False,  # a file name may hold $
                path_effects=halo,
            )
        # matplotlib sets the text only: its savefig follows the user's settings and resamples the picture.
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        text_layer = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        ink = text_layer[:, :, 3] > 0
        opacity = text_layer[ink][:, 3:] / 255
        finished = self.canvas.copy()
        finished[ink] = np.round(self.canvas[ink] * (1 - opacity) + text_layer[ink][:, :3] * opacity)
        Image.fromarray(finished).save(path, format="PNG")


def text_width(content: str, size: float) -> float:
    """Return the width of a text set in FONT, in pixels."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    return float(text_to_path.get_text_width_height_descent(content, FontProperties(family=FONT, size=size), False)[0])
