"""A page of pixels and text, written as a PNG."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
"""RGB, shape (height, width, 3)."""

FONT, LETTER_FONT = "DejaVuSans.ttf", "DejaVuSansMono.ttf"
"""Come with matplotlib, so the picture does not depend on the machine's fonts; the I of the second is no bar."""
FONTS = "mpl-data/fonts/ttf"
"""Where matplotlib keeps them; it is not loaded for that, which takes half a second."""
FONT_SIZE = 13
ANCHORS = {"center": "mm", "left": "lm"}
HALO_WIDTH = 1
BACKGROUND = (16, 16, 18)
TEXT_COLOUR = (0.88, 0.88, 0.88)
DRAWN = 256
"""Texts of a font whose pixels are kept."""
COMPRESSION = 3
"""zlib's level: a picture is 6 % larger than at the usual 6, and written in half of the time."""


@dataclass(frozen=True)
class Text:
    """A line of text at a point of the page, in pixels from the top left corner."""

    x: float
    y: float
    content: str
    size: int = FONT_SIZE
    align: str = "center"
    angle: float = 0.0
    font: str = FONT
    colour: tuple[float, float, float] = TEXT_COLOUR

    def draw(self, image: Image.Image) -> None:
        """Set it on an RGB picture, with a black halo."""
        if self.angle:
            self._draw_turned(image)
        else:
            self._set(image, (self.x, self.y))

    def _draw_turned(self, image: Image.Image) -> None:
        """Set it upright on what it will cover, turned back, and turn that."""
        side = round(text_width(self.content, self.size, self.font)) + 2 * self.size
        left, top = round(self.x - side / 2), round(self.y - side / 2)
        square = (left, top, left + side, top + side)
        below = image.crop(square).rotate(-self.angle)
        self._set(below, (side / 2, side / 2))
        image.paste(below.rotate(self.angle), square)

    def _set(self, image: Image.Image, place: tuple[float, float]) -> None:
        colour = tuple(round(255 * part) for part in self.colour)
        style: dict[str, Any] = {"font": _font(self.font, self.size), "anchor": ANCHORS[self.align]}
        ImageDraw.Draw(image).text(
            place, self.content, fill=colour, stroke_width=HALO_WIDTH, stroke_fill=(0, 0, 0), **style
        )


class Page:
    """An 8-bit RGB canvas, shape (height, width, 3), and the text that goes on top of it."""

    def __init__(self, width: int, height: int) -> None:
        line = np.full((width, 3), BACKGROUND, dtype=np.uint8)
        self.canvas = np.repeat(line[None], height, axis=0)
        self.texts: list[Text] = []

    def paint(self, left: int, top: int, pixels: Pixels) -> None:
        """Put an RGB picture, shape (height, width, 3), on the canvas."""
        self.canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels

    def write(self, x: float, y: float, content: str, **style: Any) -> None:
        """Add a line of text."""
        self.texts.append(Text(x, y, content, **style))

    def save(self, path: Path) -> None:
        """Set the text and write the PNG."""
        image = Image.fromarray(self.canvas)
        for text in self.texts:
            text.draw(image)
        image.save(path, format="PNG", compress_level=COMPRESSION)


def text_width(content: str, size: int, font: str = FONT) -> float:
    """Return the width of a text, in pixels."""
    return float(_font(font, size).getlength(content))


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    package = find_spec("matplotlib")
    folders = [] if package is None else package.submodule_search_locations or []
    path = next((file for folder in folders if (file := Path(folder) / FONTS / name).is_file()), None)
    if path is None:  # a distribution that keeps its fonts elsewhere
        from matplotlib.font_manager import findfont

        path = Path(findfont("DejaVu Sans Mono" if name == LETTER_FONT else "DejaVu Sans"))
    font = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    # The letters at the edges of panels are drawn over and over again.
    font.getmask2 = lru_cache(DRAWN)(font.getmask2)  # type: ignore[method-assign, assignment]
    return font
