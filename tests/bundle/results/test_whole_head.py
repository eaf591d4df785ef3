"""The upper row of the quality-control picture: the whole head, turned as its header says."""

from __future__ import annotations

import numpy as np

from bundle.results import picture as layout
from bundle.results.panels import EDGE_COLOUR
from tests.bundle.results.page_reading import (
    AXIAL,
    CORONAL,
    HEAD,
    SAGITTAL,
    TABLE,
    blocks,
    drawn,
    head,
    outline_box,
    stored_as,
)


def test_whole_head_is_shown_beyond_the_labels_and_turns_with_the_header(tmp_path):
    """A marker outside the labelled region, in front, above and to the right, lies where the letters say."""
    _, labels, affine = blocks()
    image = np.zeros(labels.shape)
    image[40:44, 41:45, 42:46] = 100  # a cube of 8 mm around (34, 36, 38) mm
    places = {SAGITTAL: (36, 38), CORONAL: (34, 38), AXIAL: (34, 36)}  # to the right and up, mm
    scale = HEAD / 100
    for turn, axes in ((np.ones(3), ""), (np.array([1, 1, -1]), "upside down"), (np.array([-1, 1, 1]), "mirrored")):
        turned = np.diag([*turn, 1]) @ affine
        # The centre of the labels is moved onto the marker, which is then cut in all planes.
        moved = np.zeros_like(labels)
        moved[38:46, 39:47, 40:48] = 12
        page = drawn(tmp_path, image, moved, turned, TABLE, name=f"{axes or 'plain'}.png")
        for plane, (right, up) in places.items():
            axis_right, axis_up = ((1, 2), (0, 2), (0, 1))[plane]
            rows, columns = np.nonzero((head(page, plane) == 255).all(axis=-1))
            middle = HEAD / 2 + np.array([-up * turn[axis_up], right * turn[axis_right]]) * scale
            np.testing.assert_allclose([rows.mean(), columns.mean()], middle, atol=3)
            bounds = outline_box(head(page, plane), EDGE_COLOUR)
            corners = middle[[0, 0, 1, 1]] + np.array([-8, 8, -8, 8]) * scale
            np.testing.assert_allclose(bounds, corners, atol=3)


def test_whole_head_of_a_scan_without_structures_is_cut_through_what_is_bright(tmp_path, written):
    _, labels, affine = blocks()
    image = np.zeros(labels.shape)
    image[36:44, 6:14, 20:30] = 100  # centred on (30, -30, 0) mm
    drawn(tmp_path, image, np.zeros_like(labels), affine, TABLE)
    positions = {content.split()[0]: float(content.split()[3]) for content, *_ in written if content.count(",") == 1}
    assert positions.keys() == {"sagittal,", "coronal,", "axial,"}
    np.testing.assert_allclose(list(positions.values()), [30, -30, 0], atol=2)
    blank = np.zeros_like(image)
    drawn(tmp_path, blank, np.zeros_like(labels), affine, TABLE, name="blank.png")


def test_letters_of_the_whole_head_are_large_and_name_its_edges(tmp_path, written):
    drawn(tmp_path, *stored_as("PIL", *blocks()), TABLE)
    middle = layout.HEADER_HEIGHT + HEAD / 2
    for plane, (left, right, bottom, top) in enumerate(["PAIS", "LRIS", "LRPA"]):
        centre = layout.ROW_NAME_WIDTH + plane * (HEAD + layout.GAP) + HEAD / 2
        letters = [text for text in written if len(text[0]) == 1]
        beside = sorted((x, letter) for letter, x, y in letters if y == middle and abs(x - centre) < HEAD / 2)
        above = sorted((y, letter) for letter, x, y in letters if x == centre and abs(y - middle) < HEAD / 2)
        assert [letter for _, letter in beside] == [left, right]
        assert [letter for _, letter in above] == [top, bottom]
    assert layout.HEAD_LETTER_SIZE > 1.5 * layout.FONT_SIZE
