"""A picture of a label map on its scan, for quality control by eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.io.geometry import voxel_volume
from bundle.io.orientation import ras_affine, to_ras
from bundle.io.whole import whole_file
from bundle.labels import Label
from bundle.results.legend import SWATCH, Colour, legend_entries, swatch
from bundle.results.page import FONT_SIZE, Page, Pixels, text_width
from bundle.results.volumes import LabelArray, count_voxels

Array = NDArray[Any]
Floats = NDArray[np.float64]

# Lengths are pixels of the PNG unless the name says mm.
COLUMNS = 6
CELL_WIDTH = 240  # the width of a panel, unless that makes it taller than MAX_PANEL_HEIGHT
MAX_PANEL_HEIGHT = 340
GAP = 6
CAPTION_HEIGHT = 24
HEADER_HEIGHT = 48
FOOTER_HEIGHT = 30
ROW_NAME_WIDTH = 34
LEGEND_ROW_HEIGHT = 25
LETTER_FONT = "DejaVu Sans Mono"  # its I has serifs and is no bar
TITLE_SIZE = 18
LETTER_INSET = 9

MARGIN_MM = 15.0  # scan shown around the labelled region, so that tissue which was missed is seen
FILL_ALPHA = 0.25
WINDOW_PERCENTILES = (1.0, 99.0)
SLICE_SPAN = (0.1, 0.9)  # of the labelled region: its very ends show little

FOOTNOTE = "Left is on the left (neurological convention). Positions in world coordinates."


@dataclass(frozen=True)
class Plane:
    """A viewing plane of a RAS volume: its normal, and the axes that run to the right and up on the page."""

    name: str
    normal: int
    right: int
    up: int


# Neurological convention: in coronal and axial panels the patient's left is on the left.
PLANES = (Plane("sagittal", 0, 1, 2), Plane("coronal", 1, 0, 2), Plane("axial", 2, 0, 1))
AXIS_NAMES = ("x", "y", "z")
AXIS_ENDS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class Scene:
    """A scan and its label map in RAS order, and the box of voxels to show: ``first`` to ``last``, both included."""

    image: Array  # (X, Y, Z)
    window: tuple[float, float]  # the image's values shown as black and as white
    label_map: LabelArray  # (X, Y, Z), codes
    background: int
    affine: Floats
    spacing: Floats  # (3,), mm
    first: Array  # (3,)
    last: Array  # (3,)

    def extent_mm(self, axis: int) -> float:
        """Return the length of the box with its margins along an axis."""
        return float((self.last[axis] - self.first[axis] + 1) * self.spacing[axis] + 2 * MARGIN_MM)

    def pixel_positions(self, axis: int, pixels: int) -> Floats:
        """Return the voxel coordinate of each of the pixels that share the box with its margins, shape (pixels,)."""
        start = self.first[axis] - 0.5 - MARGIN_MM / self.spacing[axis]
        step = self.extent_mm(axis) / self.spacing[axis] / pixels
        return np.asarray(start + (np.arange(pixels) + 0.5) * step)

    def slices(self, axis: int) -> list[int]:
        """Return up to COLUMNS slice indices, evenly spread over the box."""
        steps = np.linspace(*SLICE_SPAN, COLUMNS) * (self.last[axis] - self.first[axis])
        return [int(index) for index in np.unique(self.first[axis] + np.round(steps).astype(int))]

    def position_mm(self, axis: int, index: int) -> float:
        """Return the world coordinate of a slice along an axis, at the centre of the box."""
        centre = (self.first + self.last) / 2
        centre[axis] = index
        return float((centre @ self.affine[:3, :3].T + self.affine[:3, 3])[axis])


def draw_qc(
    image: Array,
    label_map: LabelArray,
    affine: Floats,
    table: Sequence[Label],
    path: str | Path,
    title: str,
    overwrite: bool = False,
) -> None:
    """Draw sagittal, coronal and axial slices of a scan with each structure outlined in its colour, as a PNG.

    Slices follow the voxel grid, turned to the closest of R, A, S, and are spread over the labelled region, or over the
    whole volume when no structure was found. Left is on the left (neurological convention). The same input gives the
    same bytes.

    Args:
        image: the scan, shape (X, Y, Z); shown between the percentiles 1 and 99 of its non-zero voxels.
        label_map: integer codes, shape (X, Y, Z).
        affine: voxel to world in mm, shape (4, 4).
        table: the structures, background first.
        path: the PNG to write.
        title: a line above the panels, such as the scan's name.
        overwrite: replace an existing file.

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
        scene = _scene(image, label_map, np.asarray(affine, dtype=np.float64), table[0].code)
        _draw_page(scene, present, title).save(unfinished)


def _scene(image: Array, label_map: LabelArray, affine: Floats, background: int) -> Scene:
    turned_affine = ras_affine(affine, label_map.shape)
    turned = to_ras(label_map, affine)
    first, last = _bounding_box(turned != background)
    return Scene(
        image=to_ras(image, affine),
        window=_window(image),
        label_map=turned,
        background=background,
        affine=turned_affine,
        spacing=np.sqrt((turned_affine[:3, :3] ** 2).sum(axis=0)),
        first=first,
        last=last,
    )


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the first and last index along each axis where a mask is true, or of the whole mask when it is empty."""
    if not mask.any():
        return np.zeros(3, dtype=int), np.array(mask.shape) - 1
    where = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    return np.array([found[0] for found in where]), np.array([found[-1] for found in where])


def _window(image: Array) -> tuple[float, float]:
    """Return the percentiles of the non-zero voxels to show as black and as white."""
    shown = image[(image != 0) & np.isfinite(image)]
    low, high = np.percentile(shown, WINDOW_PERCENTILES) if shown.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 1.0, float(low))


def _draw_page(scene: Scene, present: list[Label], title: str) -> Page:
    sizes = [_panel_size(scene, plane) for plane in PLANES]
    height = HEADER_HEIGHT + sum(rows + CAPTION_HEIGHT + GAP for _, rows in sizes) + FOOTER_HEIGHT
    entries = legend_entries(present)
    entries_per_column = (height - HEADER_HEIGHT - FOOTER_HEIGHT) // LEGEND_ROW_HEIGHT
    name_width = max((text_width(name, FONT_SIZE) for name, _ in entries), default=0.0)
    entry_width = SWATCH + 4 * GAP + round(name_width)
    legend_left = ROW_NAME_WIDTH + COLUMNS * (CELL_WIDTH + GAP) + 2 * GAP
    page = Page(legend_left + -(-len(entries) // entries_per_column) * entry_width, height)
    page.write(ROW_NAME_WIDTH, HEADER_HEIGHT / 2, _heading(title, bool(present)), size=TITLE_SIZE, align="left")
    page.write(ROW_NAME_WIDTH, height - FOOTER_HEIGHT / 2, FOOTNOTE, align="left")
    top = HEADER_HEIGHT
    for plane, size in zip(PLANES, sizes, strict=True):
        _draw_row(page, scene, plane, size, top, {label.code: label.colour for label in present})
        top += size[1] + CAPTION_HEIGHT + GAP
    for index, (name, colours) in enumerate(entries):
        column, row = divmod(index, entries_per_column)
        left = legend_left + column * entry_width
        middle = HEADER_HEIGHT + row * LEGEND_ROW_HEIGHT + LEGEND_ROW_HEIGHT // 2
        page.paint(left, middle - SWATCH // 2, swatch(colours))
        page.write(left + SWATCH + 2 * GAP, middle, name, align="left")
    return page


def _heading(title: str, found: bool) -> str:
    """Return the title in one line that fits above the panels, with a remark when no structure was found."""
    remark = "" if found else " (no structure found)"
    line = " ".join(title.encode("utf-8", "replace").decode("utf-8").split())  # bytes of a name that are no text: "?"
    shown, room = line, COLUMNS * CELL_WIDTH
    while (width := text_width(shown + remark, TITLE_SIZE)) > room:
        shown = line[: int(len(shown) * room / width) - 1] + "…"
    return shown + remark


def _panel_size(scene: Scene, plane: Plane) -> tuple[int, int]:
    """Return a panel's width and height in pixels, in the proportions of its extent in mm."""
    width_mm, height_mm = scene.extent_mm(plane.right), scene.extent_mm(plane.up)
    scale = min(CELL_WIDTH / width_mm, MAX_PANEL_HEIGHT / height_mm)
    return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def _draw_row(
    page: Page, scene: Scene, plane: Plane, size: tuple[int, int], top: int, colours: dict[int, Colour]
) -> None:
    """Draw the slices of one plane from left to right, with their letters and positions."""
    width, height = size
    middle = top + height / 2
    page.write(ROW_NAME_WIDTH / 2, middle, plane.name, angle=90)
    for column, index in enumerate(scene.slices(plane.normal)):
        left = ROW_NAME_WIDTH + column * (CELL_WIDTH + GAP) + (CELL_WIDTH - width) // 2
        page.paint(left, top, _panel(scene, plane, index, size, colours))
        for letter, x in zip(AXIS_ENDS[plane.right], (left + LETTER_INSET, left + width - LETTER_INSET), strict=True):
            page.write(x, middle, letter, font=LETTER_FONT)
        for letter, y in zip(AXIS_ENDS[plane.up], (top + height - LETTER_INSET, top + LETTER_INSET), strict=True):
            page.write(left + width / 2, y, letter, font=LETTER_FONT)
        position = round(scene.position_mm(plane.normal, index), 1) + 0.0  # + 0.0 turns -0.0 into 0.0
        caption = f"{AXIS_NAMES[plane.normal]} = {position:.1f} mm"
        page.write(left + width / 2, top + height + CAPTION_HEIGHT / 2, caption)


def _panel(scene: Scene, plane: Plane, index: int, size: tuple[int, int], colours: dict[int, Colour]) -> Pixels:
    """Return one slice as RGB, shape (height, width, 3), 8 bit: grey scan, faint fill, opaque outline."""
    width, height = size
    across = scene.pixel_positions(plane.right, width)
    down = scene.pixel_positions(plane.up, height)[::-1]
    grey_slice = np.moveaxis(scene.image, plane.normal, 0)[index].T  # (up, right)
    codes_slice = np.moveaxis(scene.label_map, plane.normal, 0)[index].T

    low, high = scene.window
    shown = np.clip((np.nan_to_num(grey_slice.astype(np.float64), posinf=high, neginf=low) - low) / (high - low), 0, 1)
    grey = _linear_weights(down, shown.shape[0]) @ shown @ _linear_weights(across, shown.shape[1]).T
    panel = np.repeat(255.0 * grey[:, :, None], 3, axis=2)
    codes = _nearest(_nearest(codes_slice, down, scene.background).T, across, scene.background).T
    outline = _outline(codes)
    for code in np.unique(codes).tolist():
        if code in colours:
            inside = codes == code
            panel[inside] += FILL_ALPHA * (np.array(colours[code]) - panel[inside])
            panel[inside & outline] = colours[code]
    return np.round(panel).astype(np.uint8)


def _linear_weights(positions: Floats, size: int) -> Floats:
    """Return the weights, shape (pixels, size), that resample a line of voxels at voxel coordinates.

    Linear between voxel centres; where several voxels share a pixel, they are averaged. Black outside the volume.
    """
    reach = max(1.0, abs(float(positions[-1] - positions[0])) / max(1, len(positions) - 1))
    weights = np.clip(1 - np.abs(positions[:, None] - np.arange(size)) / reach, 0, None)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    weights[(positions < -0.5) | (positions >= size - 0.5)] = 0
    return weights


def _nearest(values: Array, positions: Floats, fill: int) -> Array:
    """Return the rows of a picture nearest to voxel coordinates, ``fill`` outside."""
    indices = np.floor(positions + 0.5).astype(int)
    outside = (indices < 0) | (indices >= len(values))
    rows: Array = values[np.where(outside, 0, indices)]
    rows[outside] = fill
    return rows


def _outline(codes: Array) -> NDArray[np.bool_]:
    """Return the pixels that have a neighbour of another code above, below, left or right."""
    edge = np.zeros(codes.shape, dtype=bool)
    vertical = codes[1:] != codes[:-1]
    horizontal = codes[:, 1:] != codes[:, :-1]
    edge[1:] |= vertical
    edge[:-1] |= vertical
    edge[:, 1:] |= horizontal
    edge[:, :-1] |= horizontal
    return edge
