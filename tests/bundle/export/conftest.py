"""What the tests of the bundle's consumers share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest


@pytest.fixture
def run_elsewhere(host):
    """Run Python in a folder from which the bundle's packages cannot be imported, but from ``path``."""

    def run(folder: Path, *arguments: object, path: Sequence[Path] = ()) -> None:
        done = host.run(*arguments, folder=folder, path=path)
        assert done.returncode == 0, done.stderr[-3000:]

    return run
