"""A picture of a label map on its scan, for quality control by eye: the whole head, and slices through its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bundle.io.geometry import voxel_volume
from bundle.io.whole import whole_file
from bundle.labels import Label
from bundle.results.legend import SWATCH, legend_entries, swatch
from bundle.results.page import FONT_SIZE, LETTER_FONT, Page, Pixels, text_width
from bundle.results.panels import head_panel, structure_panel
from bundle.results.scene import AXIS_ENDS, AXIS_NAMES, PLANES, Array, Floats, Plane, Scene, make_scene
from bundle.results.volumes import LabelArray, count_voxels

# Lengths are pixels of the PNG unless the name says mm.
COLUMNS = 6
CELL_WIDTH = 240  # the width of a panel, unless that makes it taller than MAX_PANEL_HEIGHT
MAX_PANEL_HEIGHT = 340
MAX_HEAD_HEIGHT = 440  # of the panels that show the whole head: a flip is to be seen on a small screen too
GAP = 6
CAPTION_HEIGHT = 24
HEADER_HEIGHT = 48
FOOTER_HEIGHT = 30
ROW_NAME_WIDTH = 34
ROW_WIDTH = COLUMNS * (CELL_WIDTH + GAP)
LEGEND_ROW_HEIGHT = 25
TITLE_SIZE = 18
LETTER_INSET = 9
HEAD_LETTER_SIZE = 22
HEAD_LETTER_INSET = 15

REMARK_HEIGHT = 22
REMARK_COLOUR = (1.0, 0.62, 0.1)  # orange, which stands out from the grey text

FOOTNOTE = (
    "Left is on the left (neurological convention). Structures of the right side have the stronger fill. "
    "The green line is the border of all labels. Positions in world coordinates."
)


def draw_qc(
    image: Array,
    label_map: LabelArray,
    affine: Floats,
    table: Sequence[Label],
    path: str | Path,
    title: str,
    overwrite: bool = False,
    remarks: Sequence[str] = (),
) -> None:
    """Draw the whole head, then sagittal, coronal and axial slices with each structure in its colour, as a PNG.

    The upper row shows the complete field of view through the centre of what was labelled, large enough to see that a
    head is upside down, back to front or lies on its side. The slices below are spread over the labelled region, or
    over the whole volume when no structure was found. All follow the voxel grid, turned to the closest of R, A, S. Left
    is on the left (neurological convention); right structures have the stronger fill. The same input gives the same
    bytes.

    Args:
        image: the scan, shape (X, Y, Z); shown between the percentiles 1 and 99 of its non-zero voxels.
        label_map: integer codes, shape (X, Y, Z).
        affine: voxel to world in mm, shape (4, 4).
        table: the structures, background first.
        path: the PNG to write.
        title: a line above the panels, such as the scan's name.
        overwrite: replace an existing file.
        remarks: lines below the title that stand out, such as flags.

    Raises:
        ValueError: when the shapes differ, the label map is not 3D or not of integers, or holds codes that the table
            does not know, or the affine is not an invertible (4, 4) matrix.
        ExistsError: when the file exists and ``overwrite`` is false.
    """
    if image.shape != label_map.shape:
        raise ValueError(f"image: must have the label map's shape {label_map.shape}, found {image.shape}.")
    voxel_volume(affine)
    voxels = count_voxels(label_map, table)
    with whole_file(path, overwrite) as unfinished:
        present = [label for label in table[1:] if voxels[label.code]]
        scene = make_scene(image, label_map, np.asarray(affine, dtype=np.float64), table[0].code)
        _draw_page(scene, present, title, remarks).save(unfinished)


def _draw_page(scene: Scene, present: list[Label], title: str, remarks: Sequence[str]) -> Page:
    sizes = [_panel_size(scene, plane) for plane in PLANES]
    heads = _head_sizes(scene)
    header_height = HEADER_HEIGHT + REMARK_HEIGHT * len(remarks)
    row_heights = [max(rows for _, rows in heads), *(rows for _, rows in sizes)]
    height = header_height + sum(rows + CAPTION_HEIGHT + GAP for rows in row_heights) + FOOTER_HEIGHT
    entries = legend_entries(present)
    entries_per_column = (height - header_height - FOOTER_HEIGHT) // LEGEND_ROW_HEIGHT
    name_width = max((text_width(name, FONT_SIZE) for name, _ in entries), default=0.0)
    entry_width = SWATCH + 4 * GAP + round(name_width)
    legend_left = ROW_NAME_WIDTH + ROW_WIDTH + 2 * GAP
    page = Page(legend_left + -(-len(entries) // entries_per_column) * entry_width, height)
    page.write(ROW_NAME_WIDTH, HEADER_HEIGHT / 2, _heading(title, bool(present)), size=TITLE_SIZE, align="left")
    page.write(ROW_NAME_WIDTH, height - FOOTER_HEIGHT / 2, FOOTNOTE, align="left")
    for index, remark in enumerate(remarks):
        middle = HEADER_HEIGHT + REMARK_HEIGHT * (index - 0.2)
        line = _fitted(remark, FONT_SIZE, page.canvas.shape[1] - ROW_NAME_WIDTH - GAP)
        page.write(ROW_NAME_WIDTH, middle, line, align="left", colour=REMARK_COLOUR)
    _draw_heads(page, scene, heads, header_height)
    top = header_height + row_heights[0] + CAPTION_HEIGHT + GAP
    for plane, size in zip(PLANES, sizes, strict=True):
        _draw_row(page, scene, plane, size, top, {label.code: label for label in present})
        top += size[1] + CAPTION_HEIGHT + GAP
    for index, (name, colours) in enumerate(entries):
        column, row = divmod(index, entries_per_column)
        left = legend_left + column * entry_width
        middle = header_height + row * LEGEND_ROW_HEIGHT + LEGEND_ROW_HEIGHT // 2
        page.paint(left, middle - SWATCH // 2, swatch(colours))
        page.write(left + SWATCH + 2 * GAP, middle, name, align="left")
    return page


def _heading(title: str, found: bool) -> str:
    """Return the title in one line that fits above the panels, with a remark when no structure was found."""
    remark = "" if found else " (no structure found)"
    return _fitted(title, TITLE_SIZE, COLUMNS * CELL_WIDTH - text_width(remark, TITLE_SIZE)) + remark


def _fitted(text: str, size: int, room: float) -> str:
    """Return a text in one line, cut off where it would be wider than ``room`` pixels."""
    line = " ".join(text.split())
    shown = line
    while (width := text_width(shown, size)) > room:
        shown = line[: int(len(shown) * room / width) - 1] + "…"
    return shown


def _panel_size(scene: Scene, plane: Plane) -> tuple[int, int]:
    """Return a panel's width and height in pixels, in the proportions of its extent in mm."""
    width_mm, height_mm = scene.labelled.extent_mm(plane.right), scene.labelled.extent_mm(plane.up)
    scale = min(CELL_WIDTH / width_mm, MAX_PANEL_HEIGHT / height_mm)
    return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def _head_sizes(scene: Scene) -> list[tuple[int, int]]:
    """Return the width and height of the panels of the whole head, all three in one scale."""
    extents = [(scene.whole.extent_mm(plane.right), scene.whole.extent_mm(plane.up)) for plane in PLANES]
    room = ROW_WIDTH - GAP * len(PLANES)
    scale = min(room / sum(width for width, _ in extents), MAX_HEAD_HEIGHT / max(height for _, height in extents))
    return [(max(1, round(width * scale)), max(1, round(height * scale))) for width, height in extents]


def _draw_heads(page: Page, scene: Scene, sizes: Sequence[tuple[int, int]], top: int) -> None:
    """Draw the whole field of view in three planes through the centre of the labels, side by side."""
    row_height = max(height for _, height in sizes)
    page.write(ROW_NAME_WIDTH / 2, top + row_height / 2, "whole field of view", angle=90)
    centre, left = scene.centre(), ROW_NAME_WIDTH
    for plane, (width, height) in zip(PLANES, sizes, strict=True):
        index = int(centre[plane.normal])
        corner = (left, top + row_height - height)
        panel = head_panel(scene, plane, index, (width, height))
        place = f"{plane.name}, {_position(scene, plane, index, centre)}"
        _put(page, corner, panel, plane, HEAD_LETTER_INSET, size=HEAD_LETTER_SIZE)
        page.write(left + width / 2, top + row_height + CAPTION_HEIGHT / 2, place)
        left += width + GAP


def _draw_row(
    page: Page, scene: Scene, plane: Plane, size: tuple[int, int], top: int, present: Mapping[int, Label]
) -> None:
    """Draw the slices of one plane from left to right, with their letters and positions."""
    width, height = size
    page.write(ROW_NAME_WIDTH / 2, top + height / 2, plane.name, angle=90)
    for column, index in enumerate(scene.slices(plane.normal, COLUMNS)):
        left = ROW_NAME_WIDTH + column * (CELL_WIDTH + GAP) + (CELL_WIDTH - width) // 2
        _put(page, (left, top), structure_panel(scene, plane, index, size, present), plane, LETTER_INSET)
        page.write(left + width / 2, top + height + CAPTION_HEIGHT / 2, _position(scene, plane, index))


def _put(page: Page, corner: tuple[int, int], panel: Pixels, plane: Plane, inset: int, size: int = FONT_SIZE) -> None:
    """Put a panel on the page, with the letters of the directions at its edges."""
    left, top = corner
    height, width, _ = panel.shape
    page.paint(left, top, panel)
    for letter, x in zip(AXIS_ENDS[plane.right], (left + inset, left + width - inset), strict=True):
        page.write(x, top + height / 2, letter, font=LETTER_FONT, size=size)
    for letter, y in zip(AXIS_ENDS[plane.up], (top + height - inset, top + inset), strict=True):
        page.write(left + width / 2, y, letter, font=LETTER_FONT, size=size)


def _position(scene: Scene, plane: Plane, index: int, point: Array | None = None) -> str:
    """Return where a slice lies, in words."""
    position = round(scene.position_mm(plane.normal, index, point), 1) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{AXIS_NAMES[plane.normal]} = {position:.1f} mm"
