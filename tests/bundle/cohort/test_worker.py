"""What a worker answers, whatever happens to a scan."""

from __future__ import annotations

import pickle
import warnings

import pytest

from bundle.cohort import worker
from bundle.cohort.messages import Case, Result, Settings
from bundle.errors import FlagWarning, InputError, WriteError

CASE, SETTINGS = Case("scan", "/data/scan.nii.gz"), Settings((), (), "/out")


def wrapped(error):
    """Return an error as MONAI's Compose raises it."""
    wrapper = RuntimeError("applying transform")
    wrapper.__cause__ = error
    return wrapper


@pytest.mark.parametrize(
    ("error", "code", "again"),
    [(InputError("scan.nii.gz", "found a text"), "format", False), (WriteError("/out", "is full"), "write", True),
     (wrapped(InputError("scan.nii.gz", "cut short", code="damaged")), "damaged", True),
     (MemoryError(), "memory", True), (ZeroDivisionError("x"), None, True)],
)  # fmt: skip
def test_error_of_a_scan_comes_back_as_a_result(monkeypatch, error, code, again):
    def fail(case, settings):
        raise error

    monkeypatch.setattr(worker, "_segmented", fail)
    result = pickle.loads(pickle.dumps(worker.segment_case(CASE, SETTINGS)))
    assert (result.status, result.code, result.again) == ("failed", code, again)
    assert len(result.reason.splitlines()) == 1


def test_warnings_of_a_scan_come_back_and_those_of_libraries_do_not(monkeypatch):
    def warn(case, settings):
        warnings.warn("scan: look\ntwice", FlagWarning, stacklevel=1)
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        return Result("done")

    monkeypatch.setattr(worker, "_segmented", warn)
    assert worker.segment_case(CASE, SETTINGS).warnings == ("scan: look twice",)


def test_model_that_is_not_there_is_said_in_a_line():
    said = worker.prepare(Settings(("/nowhere.json",), (), "/out"))
    assert (said.code, said.error) == ("missing", "/nowhere.json: no such file; a config is wanted")
