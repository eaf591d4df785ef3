"""Scans in one process: reading overlaps writing, folders and warnings stay with their scan, some are tried again."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch

from bundle.cohort import run
from bundle.cohort.attempts import attempts, failure
from bundle.cohort.messages import Case, Settings
from bundle.errors import FlagWarning, InputError, WriteError
from bundle.results import OutputPaths
from bundle.warned import warn

SETTINGS = Settings((), (), "/out", resume=False)


class Scripted:
    """A segmenter that does nothing but what the name of a scan says, and notes what it is asked for."""

    device = torch.device("cpu")

    def __init__(self):
        self.calls = []
        self.unwritable = 1
        self.third_is_read = threading.Event()
        self.writers = set()

    def read(self, path, folder):
        self.calls.append(f"read {path}")
        warn(FlagWarning(f"{path}: odd"))
        if "damaged" in path:
            raise InputError(path, "cut short", code="damaged")
        if path == "third":
            self.third_is_read.set()
        return {"path": path, "folder": folder}

    def compute(self, data):
        return data

    def write(self, scan):
        self.writers.add(threading.get_ident())
        if scan["path"] == "second":
            assert self.third_is_read.wait(20)
        warn(FlagWarning(f"{scan['path']}: look twice"))
        if scan["path"] == "full" and self.unwritable:
            self.unwritable -= 1
            raise WriteError(scan["folder"], "is full")
        self.calls.append(f"write {scan['path']}")
        return OutputPaths.of(scan["path"], scan["folder"])


@pytest.fixture
def segmenter(monkeypatch):
    made = Scripted()
    monkeypatch.setattr("bundle.cohort.attempts.row_of", lambda record, paths: SimpleNamespace(paths=paths))
    monkeypatch.setattr(run, "make_segmenter", lambda settings: made)
    return made


def cases(*names):
    return [Case(name, name) for name in names]


def test_next_scan_is_read_while_results_are_written(segmenter):
    ended = dict(attempts(cases("first", "second", "third"), segmenter, SETTINGS, overlap=True))
    assert {result.status for result in ended.values()} == {"done"}


@pytest.mark.parametrize(("cores", "device", "beside"), [(2, "cpu", False), (3, "cpu", True), (2, "cuda", True)])
def test_results_are_written_beside_the_network_where_it_leaves_room(monkeypatch, segmenter, cores, device, beside):
    monkeypatch.setattr("bundle.cohort.attempts.available_cores", lambda: cores)
    segmenter.device = torch.device(device)
    segmenter.third_is_read.set()
    list(attempts(cases("first", "second"), segmenter, SETTINGS))
    assert (segmenter.writers != {threading.get_ident()}) == beside


def test_results_go_to_the_folder_of_their_id_and_warnings_stay_with_their_scan(segmenter):
    given = [Case("one", "/a/T1.nii"), Case("T1", "/b/T1.nii"), Case("bad", "/damaged.nii")]
    results = [result for _, result in attempts(given, segmenter, SETTINGS)]
    assert [result.row and str(result.row.paths.record.parent) for result in results] == [
        "/out/one/T1", "/out/T1", None,
    ]  # fmt: skip
    assert [result.warnings for result in results] == [
        ("/a/T1.nii: odd", "/a/T1.nii: look twice"), ("/b/T1.nii: odd", "/b/T1.nii: look twice"),
        ("/damaged.nii: odd",),
    ]  # fmt: skip


def test_scan_that_may_end_otherwise_is_tried_again_after_the_others(segmenter):
    runner = run.InProcess(SETTINGS, retries=1)
    ended = [(outcome.case.id, outcome.result.status, outcome.attempts) for outcome in runner.run(
        cases("full", "damaged", "other")
    )]  # fmt: skip
    assert ended == [("other", "done", 1), ("full", "done", 2), ("damaged", "failed", 2)]


def test_run_that_is_left_ends_its_threads(segmenter):
    before = threading.active_count()
    outcomes = run.InProcess(SETTINGS).run(cases(*"abcdefgh"))
    assert next(outcomes).case.id == "a"
    outcomes.close()
    assert threading.active_count() == before
    assert "write d" not in segmenter.calls


@pytest.mark.parametrize(("error", "logged"), [(ZeroDivisionError("x"), True), (InputError("a.nii", "is cut"), False)])
def test_traceback_of_what_nobody_foresaw_is_logged_for_debug(caplog, error, logged):
    failure(Case("a", "a.nii"), error)
    assert [record.exc_info is not None for record in caplog.records] == [True] * logged
