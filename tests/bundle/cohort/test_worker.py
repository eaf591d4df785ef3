"""What a worker answers, whatever happens to a scan."""

from __future__ import annotations

import pickle
import warnings

import pytest

from bundle.cohort import worker
from bundle.cohort.messages import Case, Settings
from bundle.errors import InputError, WriteError

CASE, SETTINGS = Case("scan", "/data/scan.nii.gz"), Settings((), (), "/out", resume=False)


def wrapped(error):
    """Return an error as MONAI's Compose raises it."""
    wrapper = RuntimeError("applying transform")
    wrapper.__cause__ = error
    return wrapper


class Failing:
    """A segmenter that cannot read, and warns as libraries do."""

    def __init__(self, error):
        self.error = error

    def read(self, *_):
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        raise self.error

    def compute(self, data):
        return data


@pytest.mark.parametrize(
    ("error", "code", "again"),
    [(InputError("scan.nii.gz", "found a text"), "format", False), (WriteError("/out", "is full"), "write", True),
     (wrapped(InputError("scan.nii.gz", "cut short", code="damaged")), "damaged", True),
     (MemoryError(), "memory", True), (ZeroDivisionError("x"), None, True)],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_error_of_a_scan_comes_back_as_a_result(monkeypatch, error, code, again):
    monkeypatch.setattr(worker, "_segmenter", lambda _: Failing(error))
    result = pickle.loads(pickle.dumps(worker.segment_case(CASE, SETTINGS)))
    assert (result.status, result.code, result.again) == ("failed", code, again)
    assert len(result.reason.splitlines()) == 1
    assert result.warnings == ()


def test_model_that_is_not_there_is_said_in_a_line():
    said = worker.prepare(Settings(("/nowhere.json",), (), "/out"))
    assert (said.code, said.error) == ("missing", "/nowhere.json: no such file; a config is wanted")
    result = worker.segment_case(CASE, Settings(("/nowhere.json",), (), "/out"))
    assert (result.status, result.code) == ("failed", "missing")
