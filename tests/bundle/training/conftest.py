"""Label maps that the tests of the training share, and one thread for their tiny networks."""

from __future__ import annotations

import pytest

from tests.phantom import write_phantoms
from tests.threads import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="session")
def phantom_maps(tmp_path_factory):
    """Two small label maps."""
    return write_phantoms(tmp_path_factory.mktemp("phantom_maps"))
