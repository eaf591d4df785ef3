"""What ``run_main`` leaves as it was in the process of the tests."""

from __future__ import annotations

import io
import sys

import pytest


def test_absl_holds_no_stream_that_pytest_needs(run_main, monkeypatch):
    handler = pytest.importorskip("absl.logging").get_absl_handler().python_handler
    monkeypatch.setattr(handler, "stream", io.StringIO())
    assert run_main("scripts.labels", "--help").returncode == 0
    assert handler.stream is sys.__stderr__
