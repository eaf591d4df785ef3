"""The tissue table: what the shipped one says, and what a file must be."""

from __future__ import annotations

import pytest
import torch

from bundle.errors import InputError, MissingError
from bundle.labels import read_labels
from bundle.synthesis import SyntheticBrainDataset, find_label_maps
from bundle.synthesis.anatomy import ClassTable
from bundle.synthesis.priors import TissuePriors
from bundle.synthesis.tissues import COLUMNS, DEFAULT_TISSUES, read_tissues
from tests.phantom import write_phantoms

# Voxels that version 0.8 counted by lists of codes in its code.
VENTRICLES = {4, 5, 14, 43, 44, 72, 136, 137, 163, 164}
SPREAD_OUT = {2, 3, 7, 8, 24, 41, 42, 46, 47}
LATER = (520, 540, 541, 542)
PART_OF = {25: 2, 57: 41, 136: 4, 163: 43, 137: 5, 164: 44, 30: 2, 62: 41, 72: 4}
SIDES = {
    41: 2, 42: 3, 43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 58: 26, 60: 28,
    57: 25, 62: 30, 163: 136, 164: 137,
}  # fmt: skip


def test_shipped_table_says_what_version_08_had_in_its_code():
    table = read_tissues()
    codes = [code for code in range(600) if code not in LATER]
    assert {code: table[code].part_of for code in codes if table[code].part_of != code} == PART_OF
    assert {code: table[code].source for code in codes if table[code].source != code} == SIDES
    assert {code for code in codes if table[code].role == "ventricle"} == VENTRICLES
    assert {code for code in codes if table.is_brain(code)} == set(range(1, 500)) - {24}
    assert {code for code in range(1, 500) if not table[code].compact} == SPREAD_OUT
    assert table.ribbons() == [(2, 3), (41, 42)]
    assert table.with_role("csf") == [24, 520]
    for kind, members in {
        "grey": (3, 8, 11, 12, 17, 18, 26),
        "white": (2, 7, 13, 16, 28, 85),
        "fluid": (4, 5, 14, 15, 24, 72),
    }.items():
        assert {table[code].source for code in codes if table[code].kind == kind} == set(members)
    looks = {2: (0.8, 0.05), 41: (0.8, 0.05), 0: (0.02, 0.02), 24: (0.2, 0.08), 62: (0.45, 0.15), 530: (0.6, 0.15)}
    looks |= {77: (0.45, 0.2), 900: (0.45, 0.2)}
    assert {code: (table[code].mean, table[code].sd) for code in looks} == looks


def test_names_of_the_structures_are_those_of_the_label_table():
    tissues = read_tissues()
    names = {label.code: label.name for label in read_labels()}
    assert {code: tissues[code].name for code in names} == names


def row(code, **values):
    """Return a line of the table."""
    default = {"name": f"t{code}", "compact": "true", "mean": "0.5", "sd": "0.1"}
    return "\t".join(str(({"code": code} | default | values).get(column, "")) for column in COLUMNS) + "\n"


HEAD = "\t".join(COLUMNS) + "\n"
SOUND = row(0) + row("*")


def test_another_table_gives_other_images(tmp_path):
    write_phantoms(tmp_path, 1)
    lines = DEFAULT_TISSUES.read_text().splitlines(keepends=True)
    changed = [line.replace("0.80\t0.05", "0.10\t0.00") for line in lines]
    assert changed != lines
    (tmp_path / "tissues.tsv").write_text("".join(changed))
    still = {"random_contrast": 0.0, "bias": 0.0, "gamma": 0.0, "noise": 0.0, "flip": 0.0, "strip": 0.0}
    arguments = (find_label_maps(tmp_path), 6.0, ((144, 144, 144),) * 2, 1, 0, still)
    white, dark = (
        SyntheticBrainDataset(*arguments, tissue_table=path)[0] for path in (DEFAULT_TISSUES, tmp_path / "tissues.tsv")
    )
    inside = white["label"] == 1
    assert torch.equal(white["label"], dark["label"])
    assert white["image"][inside].mean() > 0.6 > 0.4 > dark["image"][inside].mean()


def test_own_sides_share_their_draw(tmp_path):
    rows = row(0) + row("*", mean=0.3) + row(7, name="a left", role="cortex", kind="grey", mean=0.25)
    rows += row(8, name="a right", tissue=7, mean="", sd="", role="cortex") + row(9, part_of=7)
    (tmp_path / "t.tsv").write_text(HEAD + rows)
    tissues = read_tissues(tmp_path / "t.tsv")
    classes = ClassTable.from_codes([7, 8, 9, 11], read_labels(), tissues)
    priors = TissuePriors.t1(classes)
    assert priors.tissue_of_class.tolist() == [0, 1, 1, 2, 3]
    assert priors.kind_of_tissue.tolist() == [-1, 0, -1, -1]
    assert priors.mean.tolist() == pytest.approx([0.5, 0.25, 0.5, 0.3])
    assert classes.channels.tolist() == [0, 5, 6, 5, 8]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("code\tname\n", "found the columns ['code', 'name']; code, name, tissue"),
        ("", "found the columns []"),
        (HEAD + row(0), "found no row for *"),
        (HEAD + row("*"), "or for 0"),
        (HEAD + SOUND + row("two"), "line 4: found the code 'two'"),
        (HEAD + SOUND + row(-2), "line 4: found the code '-2'"),
        (HEAD + SOUND + row(2) + row(2), "line 5: found the code 2 again"),
        (HEAD + SOUND + row(2, mean="bright"), "code 2: found the mean 'bright'"),
        (HEAD + SOUND + row(2, sd=-0.1), "code 2: found the sd '-0.1'; a number of at least 0"),
        (HEAD + SOUND + row(2, mean="nan"), "code 2: found the mean 'nan'"),
        (HEAD + SOUND + row(2, kind="gray"), "code 2: found the kind 'gray'; one of grey, white, fluid or none"),
        (HEAD + SOUND + row(2, role="wm"), "code 2: found the role 'wm'"),
        (HEAD + SOUND + row(2, compact="maybe"), "code 2: found compact 'maybe'"),
        (HEAD + SOUND + row(2, tissue=3), "code 2: found the tissue '3'; the code of a row"),
        (HEAD + SOUND + row(2, part_of="*"), "code 2: found the part_of '*'"),
        (HEAD + SOUND + row(2) + row(3, tissue=2) + row(4, tissue=3), "code 4: found the tissue '3', which has"),
        (HEAD + SOUND + row(2, role="cortex") + row(3, role="cortex"), "found the role 'cortex' twice on one side"),
        (HEAD + SOUND + "2\n", "code 2: found compact ''"),
    ],
)
def test_unusable_table_is_one_line_that_names_the_file_and_the_row(tmp_path, content, words):
    (tmp_path / "tissues.tsv").write_text(content)
    with pytest.raises(InputError) as caught:
        read_tissues(tmp_path / "tissues.tsv")
    assert str(caught.value).startswith(f"{tmp_path / 'tissues.tsv'}: ")
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_table_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"tissues\.tsv: not found"):
        read_tissues(tmp_path / "tissues.tsv")
