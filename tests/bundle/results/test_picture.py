"""The quality-control picture, read back as pixels."""

import matplotlib
import nibabel as nib
import numpy as np
import pytest

from bundle.errors import ExistsError
from bundle.results import draw_qc
from bundle.results import picture as layout
from bundle.results.page import BACKGROUND, TEXT_COLOUR
from bundle.results.panels import FILL_ALPHA, RIGHT_FILL_ALPHA
from bundle.results.scene import MARGIN_MM
from tests.bundle.results.page_reading import (
    AXIAL,
    CORONAL,
    LEFT_COLOUR,
    LEGEND_LEFT,
    MIDDLE_COLOUR,
    PITCH,
    RIGHT_COLOUR,
    ROWS_TOP,
    SAGITTAL,
    SCALE,
    TABLE,
    blocks,
    drawn,
    expected_box,
    outline_box,
    panel,
    stored_as,
)


@pytest.mark.parametrize("axcodes", ["RAS", "LAS", "LPS", "PIR", "SLA"])
def test_structures_are_drawn_where_they_are(tmp_path, axcodes):
    page = drawn(tmp_path, *stored_as(axcodes, *blocks()), TABLE)
    for row in (SAGITTAL, CORONAL, AXIAL):
        # The first slice cuts the block at -20 mm only and the last the one at 20 mm, whatever the plane.
        first, last = panel(page, row, 0), panel(page, row, layout.COLUMNS - 1)
        np.testing.assert_allclose(outline_box(first, LEFT_COLOUR), expected_box(-20, -20), atol=1.5)
        np.testing.assert_allclose(outline_box(last, RIGHT_COLOUR), expected_box(20, 20), atol=1.5)
        assert outline_box(first, RIGHT_COLOUR) is None
        assert outline_box(last, LEFT_COLOUR) is None


def test_picture_does_not_depend_on_storage_order(tmp_path):
    scan = blocks(middle=True)
    draw_qc(*scan, TABLE, tmp_path / "ras.png", "scan")
    draw_qc(*stored_as("LIP", *scan), TABLE, tmp_path / "lip.png", "scan")
    assert (tmp_path / "ras.png").read_bytes() == (tmp_path / "lip.png").read_bytes()


def test_left_is_left_of_right_in_axial_and_coronal_panels(tmp_path):
    image, labels, affine = blocks()
    mirrored = np.where(labels > 0, labels, 62 - labels[::-1])  # now both codes are at both heights, one on each side
    mirrored[mirrored == 62] = 0
    assert nib.affines.apply_affine(affine, np.argwhere(mirrored == 11))[:, 0].max() < 0
    page = drawn(tmp_path, *stored_as("LAS", image, mirrored, affine), TABLE)
    for row in (CORONAL, AXIAL):
        for column in (0, layout.COLUMNS - 1):
            left, right = (outline_box(panel(page, row, column), colour) for colour in (LEFT_COLOUR, RIGHT_COLOUR))
            assert left[3] < layout.CELL_WIDTH / 2 < right[2]


def test_letters_name_the_edges_they_stand_at(tmp_path, written):
    drawn(tmp_path, *stored_as("PIL", *blocks()), TABLE)
    for row, (left, right, bottom, top) in enumerate(["PAIS", "LRIS", "LRPA"]):
        middle = ROWS_TOP + row * PITCH + layout.CELL_WIDTH / 2
        in_row = [text for text in written if len(text[0]) == 1 and abs(text[2] - middle) <= layout.CELL_WIDTH / 2]
        for column in range(layout.COLUMNS):
            centre = layout.ROW_NAME_WIDTH + column * (layout.CELL_WIDTH + layout.GAP) + layout.CELL_WIDTH / 2
            in_panel = [text for text in in_row if abs(text[1] - centre) <= layout.CELL_WIDTH / 2]
            beside = sorted((x, letter) for letter, x, y in in_panel if y == middle)
            above = sorted((y, letter) for letter, x, y in in_panel if x == centre)
            assert [letter for _, letter in beside] == [left, right]
            assert [letter for _, letter in above] == [top, bottom]


def captions(written, axis):
    """Return the positions in mm under the panels of one plane, from left to right."""
    return [
        float(content.split()[2])
        for content, *_ in sorted(written, key=lambda text: text[1])
        if content[:2] == axis + " "
    ]


@pytest.mark.parametrize("axis", "xyz")
def test_slices_are_spread_over_the_labelled_region(tmp_path, written, axis):
    drawn(tmp_path, *stored_as("LPS", *blocks()), TABLE)
    np.testing.assert_allclose(captions(written, axis), np.linspace(-23.2, 23.2, layout.COLUMNS), atol=1.05)


def test_captions_of_an_oblique_scan_are_world_coordinates_at_the_centre_of_the_slice(tmp_path, written):
    image, labels, affine = stored_as("LPS", *blocks((1.0, 1.0, 2.0)))
    turn = np.deg2rad(20)
    oblique = nib.affines.from_matvec(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]], [7, -9, 4]
    )
    affine = oblique @ affine
    drawn(tmp_path, image, labels, affine, TABLE)
    found = np.argwhere(labels)
    for column, axis in enumerate("xyz"):
        centres = np.tile((found.min(axis=0) + found.max(axis=0)) / 2, (labels.shape[column], 1))
        centres[:, column] = np.arange(labels.shape[column])
        world = nib.affines.apply_affine(affine, centres)[:, column]
        positions = captions(written, axis)
        assert len(positions) == layout.COLUMNS
        assert positions == sorted(positions)
        assert all(np.abs(world - position).min() <= 0.051 for position in positions)


@pytest.mark.parametrize("spacing", [(1.0, 2.0, 4.0), (5.0, 0.5, 1.0)])
def test_anisotropic_voxels_keep_their_proportions(tmp_path, spacing):
    page = drawn(tmp_path, *blocks(spacing), TABLE)
    tolerance = max(spacing) / 2 * SCALE + 1.5  # a block's side is off by up to half a voxel
    for row in (SAGITTAL, CORONAL, AXIAL):
        box = outline_box(panel(page, row, 0), LEFT_COLOUR)
        np.testing.assert_allclose(box, expected_box(-20, -20), atol=tolerance)


def test_outline_is_opaque_and_fill_is_faint(tmp_path):
    image, labels, affine = blocks()
    page = drawn(tmp_path, np.full_like(image, 100.0), labels, affine, TABLE)
    top, bottom, left, right = outline_box(panel(page, AXIAL, 0), LEFT_COLOUR)
    square = panel(page, AXIAL, 0)[top : bottom + 1, left : right + 1]
    for side in (square[0], square[-1], square[:, 0], square[:, -1]):
        assert (side == LEFT_COLOUR).all()
    faint = np.round(255 + FILL_ALPHA * (np.array(LEFT_COLOUR) - 255))
    assert (square[1:-1, 1:-1] == faint).all()


def test_right_structures_have_the_stronger_fill(tmp_path):
    image, labels, affine = blocks()
    page = drawn(tmp_path, np.full_like(image, 100.0), labels, affine, TABLE)
    for column, colour, alpha in ((0, LEFT_COLOUR, FILL_ALPHA), (-1, RIGHT_COLOUR, RIGHT_FILL_ALPHA)):
        for row in (SAGITTAL, CORONAL, AXIAL):
            shown = panel(page, row, column % layout.COLUMNS)
            top, bottom, left, right = outline_box(shown, colour)
            filled = np.round(255 + alpha * (np.array(colour) - 255))
            assert (shown[top + 1 : bottom, left + 1 : right] == filled).all()
    assert RIGHT_FILL_ALPHA >= 2 * FILL_ALPHA
    assert "right side" in layout.FOOTNOTE


def test_remarks_stand_out_below_the_title_and_move_the_panels_down(tmp_path):
    plain = drawn(tmp_path, *blocks(), TABLE, name="plain.png")
    remarks = ["upside_down: " + "W" * 500, "missing: structure not found (Middle)"]
    page = drawn(tmp_path, *blocks(), TABLE, remarks=remarks)
    room = len(remarks) * layout.REMARK_HEIGHT
    assert page.shape[0] == plain.shape[0] + room
    assert (panel(page[room:], AXIAL, 0) == panel(plain, AXIAL, 0)).all()
    orange = np.round(255 * np.array(layout.REMARK_COLOUR))
    lines = (page[: layout.HEADER_HEIGHT + room] == orange).all(axis=-1)
    assert lines.any(axis=1).sum() >= 2 * 8  # two lines of letters
    assert not lines[:, -layout.GAP // 2 :].any(), "a remark is cut off by the border"
    assert not (plain == orange).all(axis=-1).any()


def test_scan_is_shown_between_its_percentiles_and_right_way_up(tmp_path):
    _, labels, affine = blocks((1.0, 1.0, 1.0))
    ramp = np.broadcast_to(np.linspace(10, 110, 100), labels.shape).copy()  # brighter towards the top of the head
    ramp[50, 50, 50] = 1e6
    shown = panel(drawn(tmp_path, ramp, labels, affine, TABLE), CORONAL, 2)
    column = shown[20:-20, 60, 0].astype(int)  # clear of letters and outlines
    assert (np.diff(column) <= 0).all()
    # 40 mm above and below the centre, on a ramp of 1 grey value a mm whose middle 98 mm are the window.
    pixels = np.round(layout.CELL_WIDTH / 2 - np.array([30, 0, -30]) * SCALE).astype(int) - 20
    np.testing.assert_allclose(column[pixels] / 255, 0.5 + np.array([30, 0, -30]) / 98, atol=0.02)


def test_empty_label_map_shows_the_whole_volume_and_says_so(tmp_path):
    image, labels, affine = blocks()
    image[:] = 50.0
    empty = drawn(tmp_path, image, np.zeros_like(labels), affine, TABLE, name="empty.png")
    full = drawn(tmp_path, image, labels, affine, TABLE)
    assert (np.ptp(empty.astype(int), axis=-1) <= 2).all(), "colour without a structure"
    bright = (panel(empty, AXIAL, 0)[30] == 255).all(axis=-1).sum()
    assert bright == pytest.approx(layout.CELL_WIDTH * 100 / (100 + 2 * MARGIN_MM), abs=2)

    headings = [page[: layout.HEADER_HEIGHT, :LEGEND_LEFT].max(axis=(0, 2)) > 128 for page in (empty, full)]
    title_end, plain_end = (np.flatnonzero(ink)[-1] for ink in headings)
    assert title_end > plain_end + 100


def test_long_or_odd_title_stays_on_the_page(tmp_path):
    page = drawn(tmp_path, *blocks(), TABLE, title="a_$b$_\n" + "W" * 500)
    heading = page[: layout.HEADER_HEIGHT]
    # The text's own grey is its brightest, and the black halo around it its darkest.
    assert heading.max() == round(255 * TEXT_COLOUR[0])
    assert heading.min() == 0
    assert (heading[:, -layout.GAP :] == BACKGROUND).all()


def test_structure_that_fills_the_volume_ends_at_its_border(tmp_path):
    labels = np.full((60, 60, 60), 12, dtype=np.uint8)
    page = drawn(tmp_path, np.ones(labels.shape), labels, np.eye(4), TABLE)
    for row in (SAGITTAL, CORONAL, AXIAL):
        box = outline_box(panel(page, row, 2), MIDDLE_COLOUR)
        np.testing.assert_allclose(box, expected_box(0, 0, size=60.0), atol=1.0)


def test_voxels_that_are_no_number_are_shown_as_zero(tmp_path):
    image, labels, affine = blocks()
    image[20:25, 20:25, 20:25] = 0
    draw_qc(image, labels, affine, TABLE, tmp_path / "zero.png", "scan")
    image[image == 0] = np.nan
    draw_qc(image, labels, affine, TABLE, tmp_path / "nan.png", "scan")
    assert (tmp_path / "nan.png").read_bytes() == (tmp_path / "zero.png").read_bytes()


def test_single_slice_and_blank_or_broken_scan_are_drawn(tmp_path):
    labels = np.zeros((30, 30, 1), dtype=np.uint8)
    labels[5:25, 5:25] = 12
    scan = np.zeros(labels.shape, dtype=np.float32)
    scan[0, 0, 0], scan[1, 1, 0] = np.nan, np.inf
    page = drawn(tmp_path, scan, labels, np.eye(4), TABLE)
    assert outline_box(page[:, :LEGEND_LEFT], MIDDLE_COLOUR) is not None


def test_large_noisy_scan_stays_small_on_disk(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.zeros((197, 233, 189), dtype=np.int16)
    labels[10:180, 10:220, 10:180] = (
        rng.choice([11, 12, 51], size=(17, 21, 17)).repeat(10, 0).repeat(10, 1).repeat(10, 2)
    )
    page = drawn(tmp_path, rng.integers(1, 1000, labels.shape, dtype=np.int16), labels, np.eye(4), TABLE)
    assert (tmp_path / "qc.png").stat().st_size < 3_500_000
    assert page.shape[0] < 1600


def test_same_bytes_twice_whatever_the_users_matplotlib_settings(tmp_path):
    scan = blocks()
    draw_qc(*scan, TABLE, tmp_path / "one.png", "scan")
    with matplotlib.rc_context({"savefig.bbox": "tight", "font.family": "serif", "figure.dpi": 50, "axes.grid": True}):
        draw_qc(*scan, TABLE, tmp_path / "two.png", "scan")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_existing_picture_is_kept_unless_told(tmp_path):
    path = tmp_path / "qc.png"
    path.write_bytes(b"mine")
    with pytest.raises(ExistsError, match=r"qc\.png"):
        draw_qc(*blocks(), TABLE, path, "scan")
    assert path.read_bytes() == b"mine"
    draw_qc(*blocks(), TABLE, path, "scan", overwrite=True)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("image_shape", "code", "affine", "message"),
    [
        ((4, 5, 7), 11, np.eye(4), r"image: must have the label map's shape \(4, 5, 6\), found \(4, 5, 7\)"),
        ((4, 5, 6), 255, np.eye(4), r"codes \[255\] are not in the label table"),
        ((4, 5, 6), 11, np.zeros((4, 4)), "affine: must be finite and invertible"),
    ],
)
def test_bad_arguments_write_nothing(tmp_path, image_shape, code, affine, message):
    with pytest.raises(ValueError, match=message):
        draw_qc(np.ones(image_shape), np.full((4, 5, 6), code), affine, TABLE, tmp_path / "qc.png", "scan")
    assert not list(tmp_path.iterdir())
