"""One thread for the tiny networks that are trained on data sets made by code."""

from __future__ import annotations

import pytest

from tests.threads import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield
