"""The legend of the quality-control picture."""

from __future__ import annotations

import numpy as np

from bundle.labels import Label, read_labels
from bundle.results import picture as layout
from bundle.results.legend import legend_entries
from bundle.results.page import BACKGROUND
from tests.bundle.results.page_reading import (
    LEFT_COLOUR,
    LEGEND_LEFT,
    MIDDLE_COLOUR,
    RIGHT_COLOUR,
    TABLE,
    blocks,
    drawn,
    outline_box,
)


def test_legend_has_one_row_for_a_pair_and_only_what_is_present(tmp_path):
    page = drawn(tmp_path, *blocks(middle=True), TABLE)
    legend = page[:, LEGEND_LEFT:]
    pair = [outline_box(legend, colour) for colour in (LEFT_COLOUR, RIGHT_COLOUR)]
    assert pair[0][:2] == pair[1][:2]  # two colours of one swatch
    assert pair[0][3] < pair[1][2]
    assert outline_box(legend, MIDDLE_COLOUR)[0] - pair[0][0] == layout.LEGEND_ROW_HEIGHT

    without = drawn(tmp_path, *blocks(), TABLE, name="without.png")[:, LEGEND_LEFT:]
    assert outline_box(without, MIDDLE_COLOUR) is None
    assert outline_box(without, LEFT_COLOUR) is not None


def test_legend_merges_sides_in_any_spelling():
    names = ["left hippocampus", "right hippocampus", "Stem", "Amygdala_R", "Left"]
    table = [Label(channel, channel, name, (channel, 0, 0)) for channel, name in enumerate(names, start=1)]
    assert legend_entries(table) == [
        ("hippocampus (L, R)", [(1, 0, 0), (2, 0, 0)]),
        ("Stem", [(3, 0, 0)]),
        ("Amygdala (R)", [(4, 0, 0)]),
        ("Left (L)", [(5, 0, 0)]),
    ]


def test_legend_of_the_shipped_table_fits_the_page(tmp_path):
    table = read_labels()
    labels = np.zeros((66, 40, 40), dtype=np.int16)
    for index, label in enumerate(table[1:], start=1):
        labels[2 * index : 2 * index + 2, 5:35, 5:35] = label.code
    page = drawn(tmp_path, np.ones(labels.shape), labels, np.eye(4), table)
    assert 1700 <= page.shape[1] <= 1900
    legend = page[:, LEGEND_LEFT:]
    assert all(outline_box(legend, label.colour) is not None for label in table[1:])
    margin = legend[:, -layout.GAP // 2 :]
    assert (margin == BACKGROUND).all(), "the longest name is cut off"
