"""scripts.cohort: every scan done or named with its reason, and the same command goes on."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from bundle.cohort.lock import output_lock
from bundle.provenance import sha256
from tests.bundle.bids.made import T2W, write_bids_set
from tests.bundle.cohort.made import options, write_scans
from tests.labelled import make_pair, write_nifti


def rows(path):
    with open(path, newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file, delimiter="\t")}


def hashes(folder):
    """Return the SHA-256 of all results, and the records without times and threads."""
    found = {path.relative_to(folder): sha256(path) for path in folder.glob("scan*/*") if path.suffix != ".json"}
    for path in folder.glob("scan*/*_record.json"):
        record = json.loads(path.read_text())
        del record["computation"]["threads"]  # labels do not depend on it
        found[path.relative_to(folder)] = {key: value for key, value in record.items() if key != "run"}
    return found


@pytest.fixture(scope="module")
def first(run_main, tmp_path_factory):
    """A run over four scans, the last of them bad: its folder, which nobody may change, and how it ended."""
    folder = tmp_path_factory.mktemp("cohort")
    write_scans(folder / "scans", 4, bad=1)
    arguments = [folder / "scans", *options(folder), "--workers", "0"]
    return folder, run_main("scripts.cohort", *arguments, "--output-dir", folder / "out")


@pytest.fixture
def again(first, run_main, tmp_path):
    """Run over a copy of the scans and the results, with more options."""
    for name in ("scans", "out"):
        shutil.copytree(first[0] / name, tmp_path / name)

    def run(*more):
        arguments = [tmp_path / "scans", "--output-dir", tmp_path / "out", *options(first[0]), "--workers", "0"]
        return run_main("scripts.cohort", *arguments, *more)

    return run


def test_every_scan_is_done_or_named_with_its_reason(first):
    folder, done = first
    assert done.returncode == 1
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [str(folder / "scans/scan3.nii.gz")]
    assert "3 done, 1 failed" in done.stdout
    table = rows(folder / "out/cohort.tsv")
    assert list(table) == ["scan0", "scan1", "scan2", "scan3"]
    assert [row["status"] for row in table.values()] == ["done", "done", "done", "failed"]
    assert (table["scan3"]["code"], table["scan3"]["attempts"]) == ("damaged", "2")
    record = json.loads((folder / "out/scan1/scan1_record.json").read_text())
    assert float(table["scan1"]["Outer"]) == record["structures"]["Outer"]["volume_mm3"]
    assert json.loads((folder / "out/cohort_summary.json").read_text())["failed_by_code"] == {"damaged": 1}
    log = next((folder / "out/logs").glob("*.log")).read_text()
    assert all(name in log for name in table)


def test_labels_are_those_of_the_program_for_one_scan(first, run_main, tmp_path):
    folder, _ = first
    run_main("scripts.segment", folder / "scans/scan1.nii.gz", "--output-dir", tmp_path, *options(folder))
    assert sha256(tmp_path / "scan1/scan1_seg.nii.gz") == sha256(folder / "out/scan1/scan1_seg.nii.gz")


def test_same_command_skips_what_holds(first, again, tmp_path):
    before = hashes(tmp_path / "out")
    done = again()
    assert (done.returncode, "3 skipped, 1 failed" in done.stdout) == (1, True)
    assert hashes(tmp_path / "out") == before
    old, new = rows(first[0] / "out/cohort.tsv"), rows(tmp_path / "out/cohort.tsv")
    for name in ("scan0", "scan1", "scan2"):
        kept = {key: value for key, value in old[name].items() if key not in ("status", "path")}
        assert kept == {key: new[name][key] for key in kept}


def test_what_changed_is_done_again_and_what_somebody_edited_is_kept(again, tmp_path):
    write_nifti(tmp_path / "scans/scan0.nii.gz", make_pair(9, (24, 24, 24))[0])
    record = tmp_path / "out/scan1/scan1_record.json"
    record.write_text(record.read_text()[:200])
    (tmp_path / "out/scan2/scan2_volumes.tsv").write_text("mine\n")
    shutil.copy(tmp_path / "scans/scan0.nii.gz", tmp_path / "scans/scan3.nii.gz")
    done = again()
    table = rows(tmp_path / "out/cohort.tsv")
    ended = {name: (row["status"], row["reason"]) for name, row in table.items()}
    edited = ended.pop("scan2")
    assert ended == {
        "scan0": ("done", "the scan has changed"),
        "scan1": ("done", "its record cannot be read"),
        "scan3": ("done", "n/a"),
    }
    assert edited[0] == "failed"
    assert "was changed since it was written" in edited[1]
    assert (tmp_path / "out/scan2/scan2_volumes.tsv").read_text() == "mine\n"
    assert done.returncode == 1
    assert again("--overwrite", "--shard", "3/4").returncode == 0
    assert (tmp_path / "out/scan2/scan2_volumes.tsv").read_text() != "mine\n"


def test_other_config_does_a_shard_again_and_leaves_its_table_beside_its_log(again, tmp_path):
    done = again("--fill-nonfinite", "--shard", "2/4")
    assert done.returncode == 0
    (table,) = (tmp_path / "out/logs").glob("*_shard_2_of_4.tsv")
    assert {name: (row["status"], row["reason"]) for name, row in rows(table).items()} == {
        "scan1": ("done", "the config has changed")
    }
    assert list(rows(tmp_path / "out/cohort.tsv")) == ["scan0", "scan1", "scan2", "scan3"]


def test_tables_are_collected_without_a_model(again, tmp_path):
    for name in ("cohort.tsv", "cohort_summary.json"):
        (tmp_path / "out" / name).unlink()
    done = again("--collect", "--model", tmp_path / "none")
    assert done.returncode == 1
    assert [row["code"] for row in rows(tmp_path / "out/cohort.tsv").values()] == ["n/a", "n/a", "n/a", "missing"]
    assert (tmp_path / "out/cohort_summary.json").exists()


def test_second_run_ends_in_a_line_that_says_who_is_at_work(again, tmp_path):
    with output_lock(tmp_path / "out"):
        done = again()
    assert done.returncode == 2
    assert "another run holds it (process " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "found"),
    [(["--model", "nowhere"], "nowhere"), (["--shard", "3"], "I/N"), (["--config", "nowhere.json"], "nowhere.json")],
)
def test_what_cannot_run_at_all_ends_with_two(again, arguments, found):
    done = again(*arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert found in done.stderr


def test_images_of_another_kind_of_a_bids_data_set_are_segmented_when_asked_for(first, run_main, tmp_path):
    pytest.importorskip("ancpbids")
    write_bids_set(tmp_path / "set")
    rest = ["--output-dir", tmp_path / "out", *options(first[0]), "--workers", "0"]
    done = run_main("scripts.cohort", tmp_path / "set", "--suffix", "T2w", *rest)
    assert done.returncode == 0
    assert {name: row["status"] for name, row in rows(tmp_path / "out/cohort.tsv").items()} == {T2W: "done"}
    none = run_main("scripts.cohort", tmp_path / "set", "--suffix", "FLAIR", *rest)
    assert (none.returncode, len(none.stderr.splitlines())) == (2, 1)
    assert "set: found no _FLAIR image that is asked for" in none.stderr


def test_nothing_to_segment_ends_with_two(first, run_main, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run_main("scripts.cohort", tmp_path / "empty", "--output-dir", tmp_path / "out", *options(first[0]))
    assert (done.returncode, "found no scan" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
