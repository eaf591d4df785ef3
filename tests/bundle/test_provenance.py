"""Versions and hashes."""

from __future__ import annotations

import hashlib
import json
import platform

import numpy as np

from bundle.provenance import BLOCK, bundle_version, sha256, versions
from tests.conftest import ROOT


def test_hash_is_that_of_the_whole_file(tmp_path):
    content = np.random.default_rng().bytes(2 * BLOCK + 17)
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_versions_name_the_bundle_python_and_what_is_installed():
    found = versions(["numpy", "no-such-package"])
    assert found == {"bundle": bundle_version(), "python": platform.python_version(), "numpy": np.__version__}
    assert bundle_version() == json.loads((ROOT / "metadata.json").read_text())["version"]


def test_newest_version_stands_in_the_changelogs():
    version = bundle_version()
    assert version == next(iter(json.loads((ROOT / "metadata.json").read_text())["changelog"]))
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")]
    released = [line for line in headings if not line.endswith("Unreleased")]
    assert released[0].startswith(f"## [{version}] - ")
