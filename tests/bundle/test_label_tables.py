"""Label tables in all forms that read_labels takes, and the sides of their structures."""

from __future__ import annotations

import json

import pytest

from bundle.errors import ExistsError, InputError, MissingError, OptionError
from bundle.io import write_labels
from bundle.labels import (
    DEFAULT_TABLE,
    Label,
    distinct_colour,
    make_labels,
    mirrored_channels,
    read_labels,
    side_partners,
    split_side,
)
from tests.conftest import ROOT

MSD = {"labels": {"0": "background", "7": "Posterior", "2": "Anterior  part"}}
NNUNET = {"labels": {"background": 0, "Posterior": 7, "Anterior part": 2}}
WIDE = "channel\tcode\tname\tred\tgreen\tblue\tside\tone_piece\n"
BIDS = "index\tname\tabbreviation\n7\tPosterior\tP\n2\tAnterior part\tA\n"


@pytest.mark.parametrize(
    ("name", "content", "background"),
    [
        ("dataset.json", json.dumps(MSD), "background"),
        ("dataset.json", json.dumps(NNUNET), "background"),
        ("dseg.tsv", BIDS, "Background"),
    ],
)
def test_channels_follow_the_codes_whatever_the_form(tmp_path, name, content, background):
    (tmp_path / name).write_text(content)
    labels = read_labels(tmp_path / name)
    assert [(label.channel, label.code, label.name) for label in labels] == [
        (0, 0, background),
        (1, 2, "Anterior part"),
        (2, 7, "Posterior"),
    ]
    assert labels[0].colour == (0, 0, 0)


def test_written_table_reads_back_as_it_was(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(MSD))
    for labels in (read_labels(tmp_path / "dataset.json"), read_labels()):
        path = write_labels(labels, tmp_path / "new" / f"{len(labels)}.tsv")
        assert read_labels(path) == labels
    assert (tmp_path / "new" / "33.tsv").read_text() == DEFAULT_TABLE.read_text()


def test_another_table_is_not_overwritten_unless_asked_for(tmp_path):
    first, second = make_labels({1: "one"}), make_labels({1: "one", 2: "two"})
    path = write_labels(first, tmp_path / "labels.tsv")
    before = path.stat().st_mtime_ns
    write_labels(first, path)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ExistsError, match="another label table; a free name, or overwrite"):
        write_labels(second, path)
    assert read_labels(path) == first
    write_labels(second, path, overwrite=True)
    assert read_labels(path) == second
    assert [file.name for file in tmp_path.iterdir()] == ["labels.tsv"]


def test_made_up_colours_are_distinct():
    colours = {distinct_colour(channel) for channel in range(255)}
    assert len(colours) == 255
    first = [distinct_colour(channel) for channel in range(12)]
    gaps = [sum(abs(a - b) for a, b in zip(x, y, strict=True)) for i, x in enumerate(first) for y in first[:i]]
    assert min(gaps) > 60


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset.json", "{", "cannot be read as JSON"),
        ("dataset.json", "[]", "found no labels"),
        ("dataset.json", '{"labels": {}}', "found no labels"),
        ("dataset.json", '{"labels": {"whole": [1, 2], "background": 0}}', "one code and one name"),
        ("dataset.json", '{"labels": {"0": "background", "00": "other", "1": "a"}}', "appear once"),
        ("dataset.json", '{"labels": {"0": "background"}}', "found 0 structures"),
        ("dataset.json", '{"labels": {"1": "a", "40000": "b"}}', r"\[40000\]; 0 to 32767"),
        ("dataset.json", '{"labels": {"background": 0, "a": -1}}', r"\[-1\]"),
        ("dseg.tsv", "number\tname\n1\ta\n", r"found the columns \['number', 'name'\]"),
        ("dseg.tsv", "index\tname\n1\ta\n1\tb\n", "appear once"),
        ("dseg.tsv", "index\tname\none\ta\n", "one"),
        ("labels.tsv", "channel\tcode\tname\tred\tgreen\tblue\n1\t0\ta\t0\t0\t0\n", "channels must be"),
        ("labels.tsv", "channel\tcode\tname\tred\tgreen\tblue\n0\t0\ta\t0\t0\n", "cannot be read as a table"),
        ("labels.tsv", f"{WIDE}0\t0\ta\t0\t0\t0\tup\ttrue\n", "side 'up' is none of left, right and nothing"),
        ("labels.tsv", f"{WIDE}0\t0\ta\t0\t0\t0\t\tmaybe\n", "one_piece 'maybe' is neither true nor false"),
        ("labels.tsv", f"{WIDE}0\t0\ta\t0\t0\t0\n", "cannot be read as a table"),
    ],
)
def test_unusable_table_names_the_file_and_the_fault(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_labels(tmp_path / name)
    assert error.value.code == "labels"
    assert len(str(error.value).splitlines()) == 1
    assert str(tmp_path / name) in str(error.value)


def test_missing_table_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"labels\.tsv: not found"):
        read_labels(tmp_path / "labels.tsv")


def made(*names: str) -> list[Label]:
    return make_labels(dict(enumerate(names, start=1)))


@pytest.mark.parametrize(
    ("words", "form"),
    [
        *((("Left", "Right"), form) for form in ("{}-Ventral DC", "{}Ventral-DC", "Ventral DC {}", "ventral_dc{}")),
        *(
            (("left", "right"), form)
            for form in ("{} ventral dc", "ventral_dc_{}", "Ventral DC ({})", "Ventral DC, {}")
        ),
        *((("lh", "rh"), form) for form in ("{}_ventral_dc", "{}.Ventral.DC", "{}-ventral-dc")),
        *(
            (("L", "R"), form)
            for form in ("Ventral DC_{}", "Ventral-DC-{}", "{}_Ventral_DC", "{}. ventral DC", "v DC ({})")
        ),
        (("LEFT", "RIGHT"), "{}_VENTRAL_DC"),
    ],
)
def test_side_is_told_in_all_usual_spellings(words, form):
    left, right = (split_side(form.format(word)) for word in words)
    assert (left[0], right[0]) == ("left", "right")
    assert left[1] == right[1] == form.format("").strip("-_ .,()")
    assert mirrored_channels(made(*map(form.format, words))) == [0, 2, 1]


@pytest.mark.parametrize(
    ("name", "side", "rest"),
    [
        ("ctx-lh-precentral", "left", "ctx-precentral"),
        ("wm-rh-insula", "right", "wm-insula"),
        ("7Networks_LH_Vis_1", "left", "7Networks_Vis_1"),
        ("X_L", "left", "X"),
        ("R_X", "right", "X"),
        ("Left-Inf-Lat-Vent", "left", "Inf-Lat-Vent"),
        ("V1_R", "right", "V1"),
        ("Left", "left", ""),
    ],
)
def test_name_without_its_side_keeps_its_words(name, side, rest):
    assert split_side(name) == (side, rest)
    assert Label(1, 1, name, (0, 0, 0)).name_without_side == (rest or name)


@pytest.mark.parametrize(
    "name",
    [
        *("Lateral-Ventricle", "4th-Ventricle", "CSF", "Upright", "leftover", "vertebrae_L1", "L_1", "L", "Global"),
        *("Artery-R2", "left-right-border", "Corpus Callosum", "Rolandic", "Pole_anterior", "lhx"),
    ],
)
def test_letters_of_other_words_are_no_side(name):
    assert split_side(name) == ("", name)


def test_partners_are_found_whatever_the_case_and_the_separators():
    table = made("left hippocampus", "right hippocampus", "Amygdala_L", "amygdala-r", "Stem", "Left", "Right")
    assert mirrored_channels(table) == [0, 2, 1, 4, 3, 5, 7, 6]


def test_shipped_table_pairs_its_structures_by_name():
    table = read_labels()
    pairs = {tuple(sorted((channel, partner))) for channel, partner in enumerate(mirrored_channels(table))}
    assert len(pairs) == 5 + 14
    for first, second in pairs:
        one, other = table[first], table[second]
        assert one.name.replace("Left-", "Right-") == other.name
        assert (one.side, other.side) == (("left", "right") if first != second else ("", ""))
        assert (one.region, one.one_piece) == (other.region, other.one_piece)
    assert {label.code for label in table if not label.one_piece} == {0, 5, 24, 44}
    assert all(label.region for label in table[1:])


@pytest.mark.parametrize(
    ("names", "named", "partners"),
    [
        (("Left-A", "Stem"), ["Left-A"], [0, 1, 2]),
        (("Left-A", "Left-B", "Right-B"), ["Left-A"], [0, 1, 3, 2]),
        (("Left-A", "left_a", "Right-A"), ["Left-A", "left_a", "Right-A"], [0, 1, 2, 3]),
        (tuple(f"Left-{letter}" for letter in "ABCDEFG"), ["Left-A", "Left-D, ..."], list(range(8))),
    ],
)
def test_table_whose_sides_are_no_pairs_refuses_to_be_mirrored(names, named, partners):
    table = made(*names)
    assert side_partners(table) == partners
    with pytest.raises(OptionError, match=r"^mine\.tsv: found ") as error:
        mirrored_channels(table, "mine.tsv")
    assert all(name in str(error.value) for name in named)
    assert "Stem" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_columns_say_more_than_names_and_codes(tmp_path):
    rows = [
        "channel\tcode\tname\tred\tgreen\tblue\tside\tregion\tone_piece",
        "0\t0\tBackground\t0\t0\t0\t\t\tno",
        "1\t5\tNucleus\t1\t1\t1\tL\tdeep\tTrue",
        "2\t6\tNucleus\t1\t1\t1\tRight\tdeep\tfalse",
        "3\t7\tLeft-Behind\t1\t1\t1\t\t\t",
    ]
    (tmp_path / "labels.tsv").write_text("\n".join(rows) + "\n")
    table = read_labels(tmp_path / "labels.tsv")
    assert [(label.side, label.region, label.one_piece) for label in table] == [
        ("", "", False), ("left", "deep", True), ("right", "deep", False), ("", "", True),
    ]  # fmt: skip
    assert mirrored_channels(table) == [0, 2, 1, 3]
    assert table[3].name_without_side == "Left-Behind"
    assert read_labels(write_labels(table, tmp_path / "again.tsv")) == table


def test_tables_without_the_columns_keep_what_version_08_made_of_them(tmp_path):
    """One piece: all but the codes that the inference config of that time left out; sides: as the names tell."""
    rows = [line.split("\t")[:6] for line in DEFAULT_TABLE.read_text().splitlines()]
    (tmp_path / "labels.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    table = read_labels(tmp_path / "labels.tsv")
    assert [label.code for label in table if label.one_piece] == [
        label.code for label in table if label.code not in (0, 5, 24, 44)
    ]
    assert [label.side for label in table] == [label.side for label in read_labels()]
    assert {label.code for label in make_labels(dict.fromkeys((1, 5, 24), "x")) if label.one_piece} == {1}


def test_table_of_a_training_with_version_08_counts_as_the_same(tmp_path):
    table = made("Anterior", "Left-B")
    old = "channel\tcode\tname\tred\tgreen\tblue\n"
    old += "".join("\t".join(map(str, (x.channel, x.code, x.name, *x.colour))) + "\n" for x in table)
    (tmp_path / "labels.tsv").write_text(old)
    write_labels(table, tmp_path / "labels.tsv")
    assert (tmp_path / "labels.tsv").read_text() == old
    (tmp_path / "labels.tsv").write_text("no table")
    with pytest.raises(ExistsError):
        write_labels(table, tmp_path / "labels.tsv")


@pytest.mark.parametrize("path", [DEFAULT_TABLE, ROOT / "models/hippocampus/labels.tsv"])
def test_shipped_tables_are_as_written(path, tmp_path):
    assert write_labels(read_labels(path), tmp_path / "again.tsv").read_text() == path.read_text()
