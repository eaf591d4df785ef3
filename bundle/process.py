"""How this process prints and how it ends: no character stops a print, and SIGTERM unwinds as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

TERMINATED = 128 + signal.SIGTERM
"""Exit code of what SIGTERM has ended, as shells have it: 143."""

interrupted_hint = ""
"""What an interrupted process adds to its last line: how to go on."""

Handler = Callable[[int, FrameType | None], object] | int | None


class Terminated(SystemExit):
    """SIGTERM has come: what is being written is swept up on the way out, and the exit code is 143."""


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
