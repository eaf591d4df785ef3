"""Ratings that pages export are read back, and joined with the results."""

from __future__ import annotations

import pytest

from bundle.errors import InputError, MissingError
from bundle.results.ratings import Rated, read_ratings, write_rated

HEADER = "id\trating\tnote\trated_at\tlabel_map_sha256\n"


def test_the_latest_mark_of_a_scan_counts_whatever_the_order_of_the_files(tmp_path):
    (tmp_path / "a.tsv").write_text(f"{HEADER}one\tpass\t\t2026-02-02T10:00:00.000Z\taa\ntwo\t\tlook\t2026-01-01\tbb\n")
    (tmp_path / "b.tsv").write_text(f'{HEADER}one\tfail\t"cut"\t2026-02-01T10:00:00.000Z\taa\n')
    for names in ("ab", "ba"):
        found = read_ratings(tmp_path / f"{name}.tsv" for name in names)
        assert found["one"].rating == "pass"
        assert found["two"].note == "look"
    assert read_ratings([tmp_path / "b.tsv"])["one"].note == '"cut"'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("id\trating\n", "no column note"),
        ("", "no column id"),
        (f"{HEADER}one\tgood\t\t\t\n", "found the rating 'good' in line 2"),
        (b"\xff\xfe\x00", "cannot be read as ratings"),
    ],
)
def test_other_tables_are_refused(tmp_path, content, reason):
    path = tmp_path / "r.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=reason):
        read_ratings([path])
    with pytest.raises(MissingError):
        read_ratings([tmp_path / "none.tsv"])


def test_joined_table_says_whether_the_label_map_is_still_that_one(tmp_path):
    (tmp_path / "r.tsv").write_text(
        f"{HEADER}one\tpass\tfine\t2026-01-01\taa\ntwo\tfail\t\t2026-01-01\told\ngone\tpass\t\t2026-01-01\tcc\n"
    )
    scans = {"one": Rated("aa", "done", ["cut", "small"], 0.91), "two": Rated("bb", "done", [], None)}
    scans["three"] = Rated("dd", "done", [], None)
    write_rated(read_ratings([tmp_path / "r.tsv"]), scans, tmp_path / "rated.tsv")
    lines = [line.split("\t") for line in (tmp_path / "rated.tsv").read_text().splitlines()]
    assert lines[0][5:] == ["current", "status", "flags", "quality"]
    assert {line[0]: line[1:3] + line[5:] for line in lines[1:]} == {
        "gone": ["pass", "", "", "not here", "", ""],
        "one": ["pass", "fine", "true", "done", "cut;small", "0.9100"],
        "three": ["", "", "", "done", "", ""],
        "two": ["fail", "", "false", "done", "", ""],
    }
