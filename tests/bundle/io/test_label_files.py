"""Names and colours for viewers, read back by the rules of each program."""

from __future__ import annotations

import json
import shlex

import pytest

from bundle.errors import ExistsError
from bundle.io.label_files import ENDINGS, freesurfer_lut, itksnap_labels, slicer_colours, write_label_files
from bundle.labels import Label, read_labels
from tests.conftest import ROOT

TABLE = read_labels()


def rows(text: str) -> list[list[str]]:
    """Return the columns of the lines that are no comments."""
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("write", [slicer_colours, freesurfer_lut])
def test_colour_tables_have_code_name_and_colour(write):
    found = {int(code): (name, tuple(map(int, colour))) for code, name, *colour, _ in rows(write(TABLE))}
    assert found == {label.code: (label.name, label.colour) for label in TABLE}


def test_last_column_is_opacity_in_slicer_and_its_opposite_in_freesurfer():
    assert {row[0]: row[-1] for row in rows(slicer_colours(TABLE))} == {
        str(label.code): "0" if label.code == 0 else "255" for label in TABLE
    }
    assert {row[-1] for row in rows(freesurfer_lut(TABLE))} == {"0"}


def test_itksnap_has_names_in_quotes_and_shows_all_but_the_background():
    clear, *others = rows(itksnap_labels(TABLE))
    assert clear == ["0", "0", "0", "0", "0", "0", "0", "Clear Label"]
    assert others == [[*map(str, (label.code, *label.colour)), "1", "1", "1", label.name] for label in TABLE[1:]]


def test_names_of_several_words_stay_one_column():
    table = [TABLE[0], Label(1, 1, 'anterior "part" of it', (1, 2, 3))]
    assert slicer_colours(table).splitlines()[-1].split() == ["1", 'anterior_"part"_of_it', "1", "2", "3", "255"]
    assert rows(itksnap_labels(table))[-1][-1] == "anterior 'part' of it"


def test_terminology_names_every_structure_by_its_code(tmp_path):
    *_, path = write_label_files(TABLE, tmp_path / "new")
    (category,) = json.loads(path.read_text())["SegmentationCodes"]["Category"]
    assert (category["CodingSchemeDesignator"], category["CodeValue"]) == ("SCT", "123037004")
    found = {
        int(kind["CodeValue"]): (kind["CodeMeaning"], tuple(kind["recommendedDisplayRGBValue"]))
        for kind in category["Type"]
    }
    assert found == {label.code: (label.name, label.colour) for label in TABLE[1:]}
    assert {kind["CodingSchemeDesignator"] for kind in category["Type"]} == {"99FREESURFER"}


def test_files_are_replaced_only_when_asked_for(tmp_path):
    written = write_label_files(TABLE, tmp_path, "brain")
    assert [path.name for path in written] == [f"brain{ending}" for ending in ENDINGS]
    with pytest.raises(ExistsError):
        write_label_files(TABLE, tmp_path, "brain")
    write_label_files(TABLE[:3], tmp_path, "brain", overwrite=True)
    assert len(rows(written[0].read_text())) == 3


def test_shipped_colour_table_is_the_label_tables():
    assert (ROOT / "configs/labels.ctbl").read_text() == slicer_colours(TABLE)
