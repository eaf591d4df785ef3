"""One run at a time on an output folder, or on a part of it; the second says who holds it.

A whole run excludes every other one. Runs of parts (a shard of a job array, a participant) exclude the whole and the
same part only. The lock is the file system's: it goes with its process, however that ends, so that none is ever stale.
Where a file system has no locks, a warning says so. ``tests/bundle/cohort/test_lock.py`` holds it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from bundle.errors import BundleWarning, CohortError

FOLDER = ".cohort"
WHOLE = "whole"


@contextlib.contextmanager
def output_lock(output_dir: str | Path, parts: Sequence[str] = ()) -> Iterator[None]:
    """Hold an output folder, or parts of it, until the block ends.

    Args:
        output_dir: the folder; made when missing.
        parts: names of the parts; none for the whole.

    Raises:
        CohortError: when another run holds it, saying who.
        OSError: when nothing can be written there.
    """
    folder = Path(output_dir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        for name in parts or [WHOLE]:
            held.enter_context(_held(folder, name, output_dir))
        # First ours, then a look at the others': of two that start at once, one at least sees the other.
        for other in folder.glob("*.lock"):
            if other.stem not in (parts or [WHOLE]) and (not parts or other.stem == WHOLE):
                with _held(folder, other.stem, output_dir, sign=False):
                    pass
        yield


@contextlib.contextmanager
def _held(folder: Path, name: str, output_dir: str | Path, sign: bool = True) -> Iterator[None]:
    lock = FileLock(folder / f"{name}.lock", blocking=False)
    holder = folder / f"{name}.holder"
    try:
        lock.acquire()
    except Timeout:
        what = "it" if name == WHOLE else f"its part {name}"
        raise CohortError(
            output_dir, f"another run holds {what} ({_signed(holder)})", "wait for it, or end it"
        ) from None
    except NotImplementedError:
        warnings.warn(
            BundleWarning(f"{output_dir}: its file system has no locks; let one run write to it"), stacklevel=2
        )
    try:
        if sign:
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}\n", encoding="utf-8")
        yield
        if sign:
            holder.unlink(missing_ok=True)
    finally:
        lock.release()


def _signed(holder: Path) -> str:
    with contextlib.suppress(OSError):
        return holder.read_text(encoding="utf-8").strip() or "starting"
    return "starting"
