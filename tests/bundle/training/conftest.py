"""Label maps that the tests of the training share."""

from __future__ import annotations

import pytest

from tests.phantom import write_phantoms


@pytest.fixture(scope="session")
def phantom_maps(tmp_path_factory):
    """Two small label maps."""
    return write_phantoms(tmp_path_factory.mktemp("phantom_maps"))
