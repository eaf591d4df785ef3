"""Memory runs out, or a folder goes away, while scans are segmented: one line each, and nothing half-written."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

import pytest

from bundle.errors import InputError, error_line, lacks_memory, one_line, root_cause
from tests.host import UNFINISHED

NAMES = ("first", "second")
PROGRAMS = ("segment", "bundle")
OWN = ("bundle.inference.segmenter", "bundle.inference.skipping")
"""What has to be there before memory is short."""
LITTLE = 40 * 2**20
"""Bytes: room for the scan, which has 36 thousand voxels, and not for the network's 600 MB at 2 mm."""


@pytest.fixture
def scans(tiny_scan, tmp_path):
    """Two scans in a folder of their own."""
    (tmp_path / "in").mkdir()
    return [str(shutil.copy(tiny_scan, tmp_path / "in" / f"{name}.nii.gz")) for name in NAMES]


@pytest.fixture
def segment(host, scans, tiny_config, tmp_path):
    """Run a program on the two scans."""

    def run(program: str, pixdim: float = 12.0, **fault: object):
        out = str(tmp_path / "out")
        if program == "segment":
            config = tmp_path / "config.json"
            config.write_text(tiny_config.read_text().replace("12.0", str(pixdim)))
            options = ["--output-dir", out, "--config", str(config), "--engine", "torch", "--device", "cpu"]
            return host.run("scripts.segment", *scans, *options, imports=OWN, **fault)
        options = {"datalist": str(scans), "output_dir": out, "pixdim": str([pixdim] * 3), "device": "cpu",
                   "engine": "torch", "precision": "float32"}  # fmt: skip
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        config = ("--config_file", "configs/inference.json")
        return host.run("monai.bundle", "run", *config, *arguments, imports=OWN, **fault)

    return run


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


@pytest.mark.parametrize("program", PROGRAMS)
def test_memory_that_runs_out_is_a_line_for_each_scan_and_leaves_nothing(segment, scans, tmp_path, program):
    done = segment(program, pixdim=2.0, memory=LITTLE)
    assert done.returncode == 1
    wanted = "more is wanted (close other programs, or raise the limit of the container or of ulimit -v)"
    allocated = f"found too little memory for it; {wanted}"  # where a plan took it for enough
    lines = [
        rf"error: {re.escape(scan)}: (needs .* GB .*, found .* GB; .* fit.*|{re.escape(allocated)})" for scan in scans
    ]
    assert len(done.lines) == (2 if program == "segment" else 3)
    for found, line in zip(done.lines, lines, strict=False):
        assert re.fullmatch(line, found)
    if program == "bundle":
        first = done.lines[0].removeprefix("error: ")
        assert done.lines[2] == f"error: scans: 2 of 2 failed, the first being {first}"
    assert left(tmp_path / "out") == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_output_folder_that_goes_away_is_one_line_and_leaves_nothing_half_written(segment, scans, tmp_path, program):
    folder = tmp_path / "out" / "first"
    for _ in range(5):  # on a busy machine the files may be whole before the folder goes
        done = segment(program, wait=(folder, UNFINISHED), remove=folder)
        if done.returncode:
            break
        shutil.rmtree(tmp_path / "out")
    gone = "was removed, or cannot be reached any more, while files were written to it; a folder that stays is wanted"
    assert done.returncode == 1
    assert done.lines[0] == f"error: {scans[0]}: {folder}: {gone}"
    assert len(done.lines) == (1 if program == "segment" else 2)
    assert [path for path in left(tmp_path / "out") if path.startswith("first")] == []
    assert len(left(tmp_path / "out" / "second")) == 5


@pytest.mark.parametrize("program", PROGRAMS)
def test_input_folder_that_goes_away_is_one_line_and_keeps_what_was_done(segment, scans, tmp_path, program):
    done = segment(program, wait=(tmp_path / "out" / "second", UNFINISHED), remove=tmp_path / "in")
    assert done.returncode == 1
    assert done.lines[0].startswith(f"error: {scans[1]}: no such file")
    assert len(done.lines) == (1 if program == "segment" else 2)
    assert [name for name in left(tmp_path / "out") if "/" not in name] == ["first"]
    assert len(left(tmp_path / "out" / "first")) == 5


@pytest.mark.parametrize(
    ("number", "code", "line"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_monai_run_ends_in_one_line_without_the_log_of_an_error(segment, tmp_path, number, code, line):
    done = segment("bundle", wait=(tmp_path / "out" / "second", UNFINISHED), signal=number)
    assert (done.returncode, done.lines) == (code, [line])
    assert "Traceback" not in done.stdout
    assert "terminating" not in done.stdout
    assert len(left(tmp_path / "out" / "first")) == 5
    assert left(tmp_path / "out" / "second") == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:66:\nstd::bad_alloc"),
        RuntimeError("Exception from src/plugins/intel_cpu:\nFailed to allocate 402653248 bytes of memory"),
    ],
)
def test_each_library_s_word_for_it_is_told_as_memory(error):
    wrapper = RuntimeError("applying transform <Compose>")
    wrapper.__cause__ = error
    found = root_cause(wrapper, "scan.nii")
    assert isinstance(found, InputError)
    assert (found.code, str(found.path)) == ("memory", "scan.nii")
    assert one_line(wrapper, "scan.nii") == error_line(wrapper, "scan.nii") == str(found)
    assert not lacks_memory(RuntimeError("shapes differ"))
    assert not lacks_memory(InputError("out of memory.nii", "found nothing"))
