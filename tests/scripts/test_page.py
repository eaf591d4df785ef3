"""``scripts.page``: what it prints, and how it ends."""

from __future__ import annotations

import pytest

from tests.finished import write_result

HEADER = "id\trating\tnote\trated_at\tlabel_map_sha256\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    write_result(root / "out", root / "scans", "one")
    return root


def test_pages_and_index_are_written_once(run_main, root):
    command = ("scripts.page", root / "out", "--scans", root / "scans")
    done = run_main(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{root / 'out' / 'index.html'}: 1 pages written, 0 up to date, 0 failed\n"
    assert sorted(path.name for path in (root / "out").rglob("*.html")) == ["index.html", "one.html"]
    assert ": 0 pages written, 1 up to date, 0 failed" in run_main(*command).stdout
    assert ": 1 pages written, 0 up to date, 0 failed" in run_main(*command, "--overwrite").stdout


def test_what_is_not_there_is_said_in_a_line(run_main, root, tmp_path):
    done = run_main("scripts.page", root / "out", "--overwrite")
    assert done.returncode == 0
    assert "labels alone, since the scan was not found (--scans DIR says where scans are)" in done.stderr
    ratings = tmp_path / "r.tsv"
    ratings.write_text(f"{HEADER}one\tpass\t\t2026-01-01\tx\nother\tfail\t\t2026-01-01\tx\n")
    done = run_main("scripts.page", root / "out", "--scans", root / "scans", "--ratings", ratings)
    assert done.stdout.splitlines()[1] == f"{root / 'out' / 'rated.tsv'}: 1 of 1 scans rated"
    assert done.stderr == "note: a rating of other, which is not among the results\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{tmp}/none"], "none: not found; a folder of results is wanted"),
        (["{tmp}"], "a folder of results is wanted"),
        (["{out}", "--scans", "{tmp}/none"], "--scans: found '"),
        (["{out}", "--ratings", "{tmp}/none.tsv"], "ratings that a page exported are wanted"),
    ],
)
def test_what_cannot_be_used_is_an_error_of_one_line(run_main, root, tmp_path, arguments, reason):
    done = run_main("scripts.page", *(text.format(tmp=tmp_path, out=root / "out") for text in arguments))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_result_that_is_torn_counts_as_failed(run_main, tmp_path):
    paths = write_result(tmp_path / "out", tmp_path / "scans", "torn")
    paths.volumes.write_text("code\n1\n")
    done = run_main("scripts.page", tmp_path / "out")
    assert done.returncode == 1
    assert "torn_volumes.tsv: cannot be read as volumes" in done.stderr
    assert "0 pages written, 0 up to date, 1 failed" in done.stdout
