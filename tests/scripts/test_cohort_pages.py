"""scripts.cohort --pages and --ratings: pages of all scans, and marks that people gave in the table."""

from __future__ import annotations

import json
import shutil

import pytest

from bundle.provenance import sha256
from tests.bundle.cohort.made import options, write_scans
from tests.scripts.test_cohort import rows

HEADER = "id\trating\tnote\trated_at\tlabel_map_sha256\n"


@pytest.fixture(scope="module")
def first(run_main, tmp_path_factory):
    """A run over three scans, the last of them bad, with a table that gives one another id: its folder, and how."""
    folder = tmp_path_factory.mktemp("pages")
    write_scans(folder / "scans", 3, bad=1)
    lines = ("other\tscans/scan0.nii.gz\n", "scan1\tscans/scan1.nii.gz\n", "scan2\tscans/scan2.nii.gz\n")
    (folder / "scans.tsv").write_text("id\timage\n" + "".join(lines))
    arguments = [folder / "scans.tsv", "--output-dir", folder / "out", *options(folder), "--workers", "0"]
    return folder, run_main("scripts.cohort", *arguments, "--pages")


@pytest.fixture
def collect(first, run_main, tmp_path):
    """Collect the tables of a copy of the results, with more options."""
    shutil.copytree(first[0] / "out", tmp_path / "out")
    arguments = [first[0] / "scans.tsv", "--output-dir", tmp_path / "out", *options(first[0]), "--collect"]
    return lambda *more: run_main("scripts.cohort", *arguments, *more)


def test_each_result_gets_its_page_with_the_scan_and_the_index_names_the_failed_one(first):
    folder, done = first
    assert done.returncode == 1
    assert "labels alone" not in done.stderr
    assert f"{folder}/out/index.html: 2 pages written, 0 up to date, 0 failed" in done.stdout
    pages = sorted(str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*.html"))
    assert pages == ["index.html", "other/scan0/scan0.html", "scan1/scan1.html"]
    index = (folder / "out/index.html").read_text()
    assert all(text in index for text in ('href="./other/scan0/scan0.html"', "scan2", "damaged"))


def test_pages_that_are_up_to_date_are_left_alone(collect, tmp_path):
    assert "0 pages written, 2 up to date, 0 failed" in collect("--pages").stdout
    (tmp_path / "out/scan1/scan1.html").unlink()
    assert "1 pages written, 1 up to date, 0 failed" in collect("--pages").stdout


def test_marks_come_into_the_table_and_say_whether_they_hold(collect, tmp_path):
    current = sha256(tmp_path / "out/other/scan0/scan0_seg.nii.gz")
    marks = [("other", "pass", "fine"), ("scan1", "fail", ""), ("scan2", "fail", "cut"), ("gone", "pass", "")]
    hashes = {"other": current}
    (tmp_path / "ratings.tsv").write_text(
        HEADER
        + "".join(f"{name}\t{mark}\t{note}\t2026-01-01\t{hashes.get(name, 'old')}\n" for name, mark, note in marks)
    )
    done = collect("--ratings", tmp_path / "ratings.tsv")
    columns = ("rating", "rating_current", "rating_note")
    table = rows(tmp_path / "out/cohort.tsv")
    assert {name: tuple(row[column] for column in columns) for name, row in table.items()} == {
        "other": ("pass", "true", "fine"), "scan1": ("fail", "false", "n/a"), "scan2": ("fail", "n/a", "cut"),
    }  # fmt: skip
    assert "note: a rating of gone, which is not among the results" in done.stderr
    described = json.loads((tmp_path / "out/cohort.json").read_text())
    assert set(columns) <= set(described)
    done = collect("--ratings", tmp_path / "ratings.tsv", "--pages")
    assert done.stderr.count("a rating of gone") == 1
    assert (tmp_path / "out/rated.tsv").read_text().count("\n") == 5
    assert rows(tmp_path / "out/cohort.tsv") == table


@pytest.mark.parametrize(
    ("more", "found"),
    [(["--shard", "1/2", "--pages"], "--pages: found a part of the scans; --collect without --shard"),
     (["--shard", "1/2", "--ratings", "r.tsv"], "--ratings: found a part"), (["--ratings", "none.tsv"], "none.tsv")],
)  # fmt: skip
def test_what_cannot_be_done_ends_with_two_before_anything_runs(collect, tmp_path, more, found):
    before = (tmp_path / "out/cohort.tsv").read_bytes()
    done = collect(*more)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert found in done.stderr
    assert (tmp_path / "out/cohort.tsv").read_bytes() == before
