"""Scans with cubes for structures, and their pictures read back as pixels."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from PIL import Image

from bundle.labels import Label
from bundle.results import draw_qc
from bundle.results import picture as layout
from bundle.results.scene import MARGIN_MM

LEFT_COLOUR, RIGHT_COLOUR, MIDDLE_COLOUR = (255, 0, 0), (0, 0, 255), (0, 200, 0)
TABLE = [
    Label(0, 0, "Background", (0, 0, 0)),
    Label(1, 11, "Left-Block", LEFT_COLOUR),
    Label(2, 12, "Middle", MIDDLE_COLOUR),
    Label(3, 51, "Right-Block", RIGHT_COLOUR),
]
# The label map of `blocks` fills a cube, so that every panel is a square that fills its cell; so does the scan, so that
# the panels of the whole head are squares as high as is allowed.
CUBE_MM = 60.0
SCALE = layout.CELL_WIDTH / (CUBE_MM + 2 * MARGIN_MM)  # pixels per mm
PITCH = layout.CELL_WIDTH + layout.CAPTION_HEIGHT + layout.GAP
LEGEND_LEFT = layout.ROW_NAME_WIDTH + layout.COLUMNS * (layout.CELL_WIDTH + layout.GAP)
HEAD = layout.MAX_HEAD_HEIGHT
ROWS_TOP = layout.HEADER_HEIGHT + HEAD + layout.CAPTION_HEIGHT + layout.GAP
SAGITTAL, CORONAL, AXIAL = range(3)


def blocks(spacing=(2.0, 2.0, 2.0), middle=False):
    """Return a scan (a slope), a label map and an affine in RAS order, 100 mm wide, centred on the world's origin.

    Left-Block is a cube of 20 mm at (-20, -20, -20), Right-Block at (20, 20, 20), and Middle at the origin.
    """
    shape = np.round(100 / np.array(spacing)).astype(int)
    affine = nib.affines.from_matvec(np.diag(spacing), -50 + np.array(spacing) / 2)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = nib.affines.apply_affine(affine, grid)
    labels = np.zeros(shape, dtype=np.int16)
    for code, centre in ((11, -20), (51, 20)) + (((12, 0),) if middle else ()):
        labels[(np.abs(world - centre) < 10).all(axis=-1)] = code
    return 100 + world @ [0.5, 0.2, 0.1], labels, affine


def drawn(folder, *arguments, name="qc.png", title="scan", **options):
    """Draw and read back a picture, shape (height, width, 3)."""
    draw_qc(*arguments, path=folder / name, title=title, **options)
    with Image.open(folder / name) as png:
        assert (png.format, png.mode, png.info) == ("PNG", "RGB", {})
        return np.asarray(png)


def panel(page, row, column):
    """Return the panel of a slice, shape (CELL_WIDTH, CELL_WIDTH, 3)."""
    top = ROWS_TOP + row * PITCH
    left = layout.ROW_NAME_WIDTH + column * (layout.CELL_WIDTH + layout.GAP)
    return page[top : top + layout.CELL_WIDTH, left : left + layout.CELL_WIDTH]


def head(page, plane):
    """Return the panel of the whole head in one plane, shape (HEAD, HEAD, 3)."""
    left = layout.ROW_NAME_WIDTH + plane * (HEAD + layout.GAP)
    return page[layout.HEADER_HEIGHT : layout.HEADER_HEIGHT + HEAD, left : left + HEAD]


def outline_box(picture, colour):
    """Return the first and last row and column of the pixels of a colour, None without any."""
    rows, columns = np.nonzero((picture == colour).all(axis=-1))
    return (rows.min(), rows.max(), columns.min(), columns.max()) if rows.size else None


def expected_box(centre_right, centre_up, size=20.0):
    """Return where the outline of a square of ``size`` mm should be in a panel centred on the world's origin."""
    middle = layout.CELL_WIDTH / 2
    half = size / 2 * SCALE
    row, column = middle - centre_up * SCALE, middle + centre_right * SCALE
    return (row - half, row + half - 1, column - half, column + half - 1)


def stored_as(axcodes, image, labels, affine):
    """Store a RAS volume in another order of axes; its place in the world stays."""
    change = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes)
    )
    moved = affine @ nib.orientations.inv_ornt_aff(change, labels.shape)
    return (*(nib.orientations.apply_orientation(volume, change) for volume in (image, labels)), moved)
