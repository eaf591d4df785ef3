"""Files appear whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bundle.errors import ExistsError
from bundle.io.whole import JOURNAL, PREFIX, refuse_existing, sweep, whole_file, whole_folder, whole_set
from tests.conftest import ROOT

NAMES = ("a.bin", "b.bin", "mark.bin")
SIZE = 200_000
KILLS = 40

WRITER = """
import sys
from pathlib import Path
from bundle.io.whole import whole_set
folder, turn, size, names = Path(sys.argv[1]), 0, int(sys.argv[2]), sys.argv[3:]
print("ready", flush=True)
while True:
    turn += 1
    with whole_set([folder / name for name in names], overwrite=True) as unfinished:
        for path in unfinished:
            path.write_bytes(turn.to_bytes(8, "little") * (size // 8))
"""
"""Writes sets for ever; every file of a set holds the set's number all over."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def turn_of(path: Path) -> int:
    """Return the number that fills a file, after checking that it is whole."""
    content = path.read_bytes()
    assert len(content) == SIZE
    assert content == content[:8] * (SIZE // 8)
    return int.from_bytes(content[:8], "little")


def kill_a_writer(folder: Path, wait: float) -> None:
    command = [sys.executable, "-c", WRITER, str(folder), str(SIZE), *NAMES]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_set_is_whole_or_absent_after_a_kill_at_any_time(tmp_path):
    draw = random.Random()
    complete = 0
    for _ in range(KILLS):
        kill_a_writer(tmp_path, draw.uniform(0, 0.06))
        written = [tmp_path / name for name in NAMES if (tmp_path / name).exists()]
        turns = [turn_of(path) for path in written]  # each file is whole
        if (tmp_path / NAMES[-1]).exists():
            complete += 1
            assert len(written) == 3
            assert len(set(turns)) == 1
        else:
            sweep(tmp_path)
            assert {name for name in names(tmp_path) if not name.endswith(".lock")} == set()
    assert complete
    for lock_file in tmp_path.glob(f"{PREFIX}*.lock"):
        os.utime(lock_file, (0, 0))  # remains of a writer that was killed before or after its folder was there
    sweep(tmp_path)
    assert set(names(tmp_path)) <= set(NAMES)


def test_lock_whose_folder_is_still_to_come_is_left_alone(tmp_path):
    lock_file = tmp_path / f"{PREFIX}1.lock"
    lock_file.touch()
    sweep(tmp_path)
    assert lock_file.exists()
    os.utime(lock_file, (0, 0))
    sweep(tmp_path)
    assert not lock_file.exists()


def killed_while_moving(folder: Path) -> Path:
    """Make what a process leaves that was killed while a set took its places, and return its folder."""
    unfinished = folder / f"{PREFIX}1"
    unfinished.mkdir()
    (folder / f"{PREFIX}1.lock").touch()
    (unfinished / JOURNAL).write_text(json.dumps(NAMES))
    return unfinished


def test_what_was_interrupted_while_taking_its_place_counts_as_absent(tmp_path):
    unfinished = killed_while_moving(tmp_path)
    (tmp_path / "a.bin").write_text("moved already")
    (unfinished / "mark.bin").write_text("not yet")
    (tmp_path / "other.bin").write_text("of someone else")
    refuse_existing([tmp_path / name for name in NAMES])
    assert names(tmp_path) == ["other.bin"]


def test_set_whose_mark_is_in_place_stays(tmp_path):
    killed_while_moving(tmp_path)
    for name in NAMES:
        (tmp_path / name).write_text("whole")
    sweep(tmp_path)
    assert names(tmp_path) == sorted(NAMES)


def test_old_set_stays_when_the_new_one_was_killed_before_it_moved(tmp_path):
    unfinished = killed_while_moving(tmp_path)
    for name in NAMES:
        (tmp_path / name).write_text("old")
        (unfinished / name).write_text("new")
    sweep(tmp_path)
    assert [(tmp_path / name).read_text() for name in NAMES] == ["old"] * 3
    assert names(tmp_path) == sorted(NAMES)


def test_what_a_living_process_writes_is_not_swept(tmp_path):
    with whole_file(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("text")
        program = "import sys; from bundle.io.whole import sweep; sweep(sys.argv[1])"
        subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=True)
    assert (tmp_path / "a.txt").read_text() == "text"
    assert names(tmp_path) == ["a.txt"]


def test_file_is_not_seen_before_it_is_complete(tmp_path):
    path = tmp_path / "made" / "here" / "a.nii.gz"
    with whole_file(path) as unfinished:
        assert unfinished.name == path.name  # some formats store it, others go by its suffix
        unfinished.write_text("text")
        assert not path.exists()
    assert path.read_text() == "text"
    assert names(path.parent) == ["a.nii.gz"]


def write_half(folder: Path, error: type[BaseException]) -> None:
    with whole_set([folder / name for name in NAMES]) as unfinished:
        unfinished[0].write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_error_leaves_nothing_behind_not_even_folders(tmp_path, error):
    (tmp_path / "kept").mkdir()
    for folder in (tmp_path / "kept", tmp_path / "made" / "here"):
        with pytest.raises(error):
            write_half(folder, error)
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == []


def test_file_that_was_not_written_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError), whole_set([tmp_path / name for name in NAMES]) as unfinished:
        unfinished[0].write_text("alone")
    assert names(tmp_path) == []


def test_existing_file_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "b.bin").write_text("mine")
    with pytest.raises(ExistsError, match=r"b\.bin: exists already"), whole_set([tmp_path / n for n in NAMES]):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["b.bin"]
    with whole_set([tmp_path / name for name in NAMES], overwrite=True) as unfinished:
        for path in unfinished:
            path.write_text("new")
    assert [(tmp_path / name).read_text() for name in NAMES] == ["new"] * 3


def test_file_that_appears_meanwhile_is_kept(tmp_path):
    block = whole_file(tmp_path / "a.txt")
    block.__enter__().write_text("mine")
    (tmp_path / "a.txt").write_text("of another process")
    with pytest.raises(ExistsError):
        block.__exit__(None, None, None)
    assert (tmp_path / "a.txt").read_text() == "of another process"


def test_files_of_a_set_lie_in_one_folder(tmp_path):
    with pytest.raises(ValueError, match="one folder"), whole_set([tmp_path / "a", tmp_path / "b" / "c"]):
        pytest.fail("the block must not run")


def test_folder_appears_complete_and_the_first_of_two_stays(tmp_path):
    with whole_folder(tmp_path / "key") as first:
        (first / "model").write_text("first")
        with whole_folder(tmp_path / "key") as second:
            (second / "model").write_text("second")
    assert (tmp_path / "key" / "model").read_text() == "second"
    assert names(tmp_path) == ["key"]


def test_file_mode_follows_the_umask(tmp_path):
    (tmp_path / "plain").touch()
    with whole_file(tmp_path / "whole") as unfinished:
        unfinished.touch()
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_names_of_any_bytes_and_of_full_length_work(tmp_path):
    for name in ("line\nbreak", os.fsdecode(b"\xff\xfe.bin"), "n" * 255, "a b$@%.gz"):
        with whole_set([tmp_path / name, tmp_path / "mark"], overwrite=True) as unfinished:
            for path in unfinished:
                path.write_text(name, errors="surrogateescape")
        assert (tmp_path / name).exists()
