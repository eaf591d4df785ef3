"""scripts.segment is stopped, or its disk fills up: one line, the exit code of shells, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from tests.conftest import ROOT

Ended = namedtuple("Ended", "code out err")

HOST = """
import json, os, resource, signal, sys, time
import torch
torch.set_num_threads(1)  # threads that were started would not live on in a child
from pathlib import Path
import bundle.inference.segmenter, tqdm
from scripts.segment import main
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT, 0o600), number)
        if order["limit"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
        code = 99
        try:
            code = main(order["arguments"])
        finally:
            sys.stdout.flush()
            os._exit(code)
    if order["signal"]:
        folder = Path(order["wait"])
        while not (folder.is_dir() and any(".unfinished" in path.name for path in folder.iterdir())):
            time.sleep(0.001)
        os.kill(child, order["signal"])
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs the program in a child for each order that it reads, and may send the child a signal while it writes a file."""


@pytest.fixture(scope="module")
def scans(tiny_scan, tmp_path_factory):
    """Two scans by name."""
    folder = tmp_path_factory.mktemp("scans")
    return {name: str(shutil.copy(tiny_scan, folder / f"{name}.nii.gz")) for name in ("first", "second")}


@pytest.fixture(scope="module")
def segment(scans, tiny_config, tmp_path_factory):
    """Run scripts.segment on two scans, and return how it ended."""
    folder = tmp_path_factory.mktemp("endings")
    with subprocess.Popen(
        [sys.executable, "-c", HOST], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout.readline() == "ready\n"

        def run(out: Path, signal_number: int = 0, limit: int = 0) -> Ended:
            files = {name: folder / f"{out.name}.{name}" for name in ("out", "err")}
            options = ["--output-dir", str(out), "--config", str(tiny_config), "--engine", "torch", "--device", "cpu"]
            order = {"arguments": [*scans.values(), *options], "limit": limit, "signal": signal_number}
            order |= {"wait": str(out / "second")} | {name: str(path) for name, path in files.items()}
            print(json.dumps(order), file=host.stdin, flush=True)
            code = int(host.stdout.readline())
            return Ended(code, *(files[name].read_text() for name in ("out", "err")))

        yield run
        host.stdin.close()


def lines(text: str) -> list[str]:
    """Return the lines of a stderr, without flags and what MONAI logs of a config that lies alone."""
    return [line for line in text.splitlines() if "metadata" not in line and not line.startswith("warning: ")]


@pytest.mark.parametrize(
    ("number", "code", "line"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_signal_ends_in_one_line_and_leaves_what_was_done(segment, tmp_path, number, code, line):
    done = segment(tmp_path / f"out{code}", number)
    assert (done.code, lines(done.err)) == (code, [line])
    assert [path.name for path in (tmp_path / f"out{code}").iterdir()] == ["first"]
    assert len(list((tmp_path / f"out{code}" / "first").iterdir())) == 5
    assert "second" not in done.out


def test_file_that_may_not_grow_is_one_line_and_leaves_nothing(segment, scans, tmp_path):
    done = segment(tmp_path / "limited", limit=3000)
    assert done.code == 1
    assert lines(done.err) == [
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
    assert (full.code, refused.code) == (1, 1)
    assert lines(full.err) == [
        f"error: {scans[name]}: {tmp_path}/small/full/{name}: cannot be written (No space left on device); "
        "free space is wanted"
        for name in ("first", "second")
    ]
    assert [line.endswith("MB is wanted") for line in lines(refused.err)] == [True, True]
    assert "engine" not in refused.out  # no network was loaded for it
