"""scripts.segment is stopped, or its disk fills up: one line, the exit code of shells, nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from bundle.cohort.attempts import NETWORK_CORES
from bundle.machine import available_cores
from tests.host import UNFINISHED, Ended


@pytest.fixture(scope="module")
def scans(tiny_scan, tmp_path_factory):
    """Two scans by name."""
    folder = tmp_path_factory.mktemp("scans")
    return {name: str(shutil.copy(tiny_scan, folder / f"{name}.nii.gz")) for name in ("first", "second")}


@pytest.fixture(scope="module")
def segment(host, scans, tiny_config):
    """Run scripts.segment on two scans, and return how it ended."""

    def run(out: Path, **fault: object) -> Ended:
        options = ["--output-dir", out, "--config", tiny_config, "--engine", "torch", "--device", "cpu"]
        return host.run("scripts.segment", *scans.values(), *options, **fault)

    return run


@pytest.mark.parametrize(
    ("number", "code", "line"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_signal_ends_in_one_line_and_leaves_only_what_is_whole(segment, tmp_path, number, code, line):
    out = tmp_path / f"out{code}"
    done = segment(out, signal=number, wait=(out / "second", UNFINISHED))
    assert (done.returncode, done.lines) == (code, [line])
    # What is being written is written whole where it has a thread of its own, and else not at all.
    overlap = available_cores() > NETWORK_CORES
    assert sorted(path.name for path in out.iterdir()) == ["first", "second"][: 1 + overlap]
    assert {len(list(folder.iterdir())) for folder in out.iterdir()} == {5}
    assert "second" not in done.stdout


def test_file_that_may_not_grow_is_one_line_and_leaves_nothing(segment, scans, tmp_path):
    done = segment(tmp_path / "limited", file_size=3000)
    assert done.returncode == 1
    assert done.lines == [
        f"error: {scans[name]}: {tmp_path}/limited/{name}: cannot be written (File too large); free space is wanted"
        for name in ("first", "second")
    ]
    assert not (tmp_path / "limited").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_full_disk_is_one_line_and_leaves_nothing(segment, scans, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    # Bytes enough for what is estimated, and nodes for three folders, two locks and the folder in which a file grows.
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8M,nr_inodes=7", "none", small], capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        full = segment(small / "full")
        assert list(small.iterdir()) == []
        subprocess.run(["mount", "-o", "remount,size=64k", small], check=True)
        refused = segment(small / "refused")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)
    assert (full.returncode, refused.returncode) == (1, 1)
    assert full.lines == [
        f"error: {scans[name]}: {tmp_path}/small/full/{name}: cannot be written (No space left on device); "
        "free space is wanted"
        for name in ("first", "second")
    ]
    assert [line.endswith("MB is wanted") for line in refused.lines] == [True, True]
    assert "engine" not in refused.stdout  # no network was loaded for it
