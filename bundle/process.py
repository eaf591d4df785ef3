"""How this process prints and how it ends: no character stops a print, and SIGTERM unwinds as Ctrl-C does."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from types import FrameType

TERMINATED = 128 + signal.SIGTERM
"""Exit code of what SIGTERM has ended, as shells have it: 143."""

interrupted_hint = ""
"""What an interrupted process adds to its last line: how to go on."""

Handler = Callable[[int, FrameType | None], object] | int | None


class Terminated(SystemExit):
    """SIGTERM has come: what is being written is swept up on the way out, and the exit code is 143."""


NO_THREAD_CACHE = "glibc.malloc.tcache_count=0"
"""Among the ``GLIBC_TUNABLES`` of a process that segments."""


def restart_without_thread_cache() -> None:
    """Start this program anew, as the same process, without glibc's cache of small blocks, if ``python -m`` runs it.

    PyTorch's tensors are aligned: glibc cuts the ends off a larger block and puts them in that cache, where they do not
    join what is freed beside them. The next tensor of the same size does not fit there, and whether it fits elsewhere
    is chance: a batch took 1.0 to 1.3 times the memory of a scan. Only the environment can set it.
    """
    known = os.environ.get("GLIBC_TUNABLES", "")
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    by_name = spec is not None and ("-m", spec.name) in pairwise(sys.orig_argv)  # not from within another program
    if "glibc.malloc.tcache_count" in known or not by_name or not sys.executable:
        return
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows, macOS, no such file
        if (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            environment = {**os.environ, "GLIBC_TUNABLES": ":".join(filter(None, [known, NO_THREAD_CACHE]))}
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def encode_whatever_is_printed() -> None:
    """Let this process print any name in any locale: what the encoding lacks becomes a backslash and its number."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def interrupted_line() -> str:
    """Return the last line of a process that Ctrl-C has ended."""
    return f"interrupted; {interrupted_hint}" if interrupted_hint else "interrupted"


def end_on_sigterm(handler: Handler | None = None) -> Handler:
    """Raise ``Terminated`` on SIGTERM, whose default is to end a process before it can sweep up.

    Args:
        handler: put this one back instead, as returned by an earlier call.

    Returns:
        The handler of before; ``None`` outside the main thread, where nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, _terminate if handler is None else handler)


def _terminate(number: int, frame: FrameType | None) -> None:
    os.write(2, b"terminated\n")  # print is not safe here: the signal may have come while it was at work
    raise Terminated(TERMINATED)
