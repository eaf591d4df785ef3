"""Files that appear whole or not at all, one, or several that belong together.

Whatever is written grows under its own name in a folder ``.unfinished-*`` beside its place, is flushed to the disk, and
is then renamed. The folder is locked while its process lives. What a killed process left behind is swept by the next
one that writes to the same place. ``tests/bundle/io/test_whole.py`` kills writers to hold this.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from bundle.errors import BundleError, ExistsError, WriteError

PREFIX = ".unfinished-"
SETTLED = 60.0
"""Seconds after which a lock without a folder is a remain; its owner makes the folder at once."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says of a full disk, a quota that is used up, and a file that is longer than a process may write."""
JOURNAL = ".commit"
"""Lists the files of a set, the commit mark last, from the moment on when they start to take their places."""


@contextlib.contextmanager
def whole_file(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a path to write to; what was written takes the place of ``path`` once the block ends without an error.

    Missing folders are made. On an error or Ctrl-C nothing is left behind.

    Args:
        path: the file.
        overwrite: replace an existing file.

    Raises:
        ExistsError: when the file exists and ``overwrite`` is false; nothing is written then.
        OSError: when it cannot be written, ``WriteError`` when the disk is full.
    """
    with whole_set([path], overwrite) as (unfinished,):
        yield unfinished


@contextlib.contextmanager
def whole_set(paths: Sequence[str | Path], overwrite: bool = False) -> Iterator[list[Path]]:
    """Give a path to write to for each of several files in one folder that belong together.

    The last file is the commit mark: it is renamed last, and an old one is removed first. After a kill at any time,
    either it is there and all others are complete, or the set counts as absent and ``sweep`` removes what is there.

    Args:
        paths: the files, the commit mark last.
        overwrite: replace existing files.

    Raises:
        ExistsError: when one of the files exists and ``overwrite`` is false; nothing is written then.
        OSError: when one of them cannot be written.
        ValueError: when the files lie in several folders.
    """
    targets = [Path(path) for path in paths]
    folder = targets[0].parent
    if any(target.parent != folder for target in targets):
        raise ValueError(f"paths must lie in one folder, got {[str(target) for target in targets]}.")
    if not overwrite:
        refuse_existing(targets)
    with _unfinished_folder(folder) as unfinished:
        written = [unfinished / target.name for target in targets]
        yield written
        for file in written:
            _flush(file)
        if not overwrite:
            _refuse(targets)  # another process may have been faster
        if len(targets) > 1:
            _write_journal(unfinished, [target.name for target in targets])
            targets[-1].unlink(missing_ok=True)
            _flush(folder)
        for file, target in zip(written, targets, strict=True):
            os.replace(file, target)
        _flush(folder)


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder to fill; it becomes ``path`` once the block ends, unless another process made that meanwhile."""
    target = Path(path)
    with _unfinished_folder(target.parent) as unfinished:
        filled = unfinished / target.name
        filled.mkdir()
        yield filled
        for file in (*filled.rglob("*"), filled):
            _flush(file)
        with contextlib.suppress(OSError):  # another process was faster
            filled.rename(target)
        _flush(target.parent)


def refuse_existing(paths: Sequence[str | Path]) -> None:
    """Raise when one of several files is there; remains of a killed process do not count.

    Raises:
        ExistsError: naming the file.
    """
    for folder in {Path(path).parent for path in paths}:
        sweep(folder)
    _refuse(paths)


def sweep(folder: str | Path, settled: float = SETTLED) -> None:
    """Remove what killed processes left unfinished in a folder; what a living process is at stays.

    Args:
        folder: where it is looked for.
        settled: seconds after which a lock without a folder is a remain; 0 for who knows that nobody else is at work.
    """
    for lock_file in Path(folder).glob(f"{PREFIX}*.lock"):
        unfinished = lock_file.with_suffix("")
        # Held by its owner as long as that lives; no such locks on this file system: nobody can tell.
        with contextlib.suppress(Timeout, NotImplementedError, OSError):
            if not unfinished.exists() and time.time() - lock_file.stat().st_mtime < settled:
                continue
            with FileLock(lock_file, blocking=False):
                _roll_back(unfinished, Path(folder))
                shutil.rmtree(unfinished, ignore_errors=True)
                lock_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _unfinished_folder(folder: Path) -> Iterator[Path]:
    """Give a new, locked folder inside ``folder``, which is made when missing; only results outlive an error."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    unfinished = folder / f"{PREFIX}{uuid4().hex[:16]}"
    lock = FileLock(f"{unfinished}.lock", timeout=SETTLED)  # another process's sweep may hold it for a moment
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        with contextlib.suppress(NotImplementedError):
            lock.acquire()
        unfinished.mkdir()
        yield unfinished
    except BaseException as error:
        _roll_back(unfinished, folder)
        if isinstance(error, WriteError) and unfinished in (error.path, *error.path.parents):
            raise WriteError(folder, error.found, error.wanted) from error  # of a file within the set
        if isinstance(error, OSError) and error.errno in FULL:
            raise WriteError(folder, f"cannot be written ({error.strerror})", "free space is wanted") from error
        ours = unfinished in error.path.parents if isinstance(error, BundleError) else isinstance(error, OSError)
        if ours and not unfinished.is_dir():
            found = "was removed, or cannot be reached any more, while files were written to it"
            raise WriteError(folder, found, "a folder that stays is wanted") from error
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        with contextlib.suppress(OSError):
            Path(f"{unfinished}.lock").unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()  # refused where there are results


def _refuse(paths: Sequence[str | Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise ExistsError(path)


def _write_journal(unfinished: Path, names: list[str]) -> None:
    draft = unfinished / f"{JOURNAL}.draft"
    draft.write_text(json.dumps(names), encoding="utf-8")
    _flush(draft)
    os.replace(draft, unfinished / JOURNAL)
    _flush(unfinished)


def _roll_back(unfinished: Path, folder: Path) -> None:
    """Remove the files of a set that took their places before its commit mark did."""
    try:
        *names, mark = json.loads((unfinished / JOURNAL).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    # An old mark that is still there says that nothing was moved yet; one that left the folder, that all was.
    if (unfinished / mark).exists() and not (folder / mark).exists():
        for name in names:
            (folder / name).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk; some systems cannot do that for folders."""
    if path.is_dir():
        with contextlib.suppress(OSError):
            _fsync(path)
    else:
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
