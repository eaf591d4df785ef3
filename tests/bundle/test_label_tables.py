"""Label tables in all forms that read_labels takes."""

from __future__ import annotations

import json

import pytest

from bundle.labels import DEFAULT_TABLE, distinct_colour, make_labels, read_labels, write_labels

MSD = {"labels": {"0": "background", "7": "Posterior", "2": "Anterior  part"}}
NNUNET = {"labels": {"background": 0, "Posterior": 7, "Anterior part": 2}}
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
    with pytest.raises(FileExistsError, match="another label table"):
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
    ],
)
def test_unusable_table_names_the_file_and_the_fault(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_labels(tmp_path / name)
    assert len(str(error.value).splitlines()) == 1
    assert str(tmp_path / name) in str(error.value)


def test_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"labels\.tsv: not found"):
        read_labels(tmp_path / "labels.tsv")
