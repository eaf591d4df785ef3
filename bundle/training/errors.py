"""Errors of a training that its user can mend, and how a command shows them."""

from __future__ import annotations

import sys
from types import TracebackType

from bundle.io import InputError


class TrainingError(RuntimeError):
    """A training that cannot start or go on; the message is one line that says what to do."""


def show_errors_in_one_line() -> None:
    """Let this process print a ``TrainingError``, ``InputError`` or ``OSError`` without its traceback.

    MONAI wraps what a config raises in an error of its own; the first of these kinds among the causes is shown.
    """
    previous = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        link: BaseException | None = error
        while link is not None and not isinstance(link, TrainingError | InputError | OSError):
            link = link.__cause__
        if link is None:
            previous(kind, error, traceback)
        else:
            print(f"error: {' '.join(str(link).split())}", file=sys.stderr)

    sys.excepthook = show
