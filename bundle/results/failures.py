"""Scans that cannot be segmented, in a run of MONAI's that goes on without them."""

from __future__ import annotations

import sys
from pathlib import Path

from bundle.choices import ON_ERROR
from bundle.errors import InputError, OptionError, error_line


class Failures:
    """Collects the scans that fail, prints a line for each, and ends the run with an error when there are any.

    Args:
        on_error: ``"skip"`` to go on, ``"raise"`` to stop at the first one.

    Attributes:
        scans: how many scans the run has; what is not known is 0.
        lines: the reasons so far.

    Raises:
        OptionError: for another ``on_error``.
    """

    def __init__(self, on_error: str = "skip") -> None:
        if on_error not in ON_ERROR:
            raise OptionError("on_error", f"found {on_error!r}", f"{' or '.join(ON_ERROR)} is wanted")
        self.skip = on_error == "skip"
        self.scans = 0
        self.lines: list[str] = []

    def add(self, error: Exception, subject: str | Path = "") -> None:
        """Take an error of a scan, or raise it where the run is to stop."""
        if not self.skip:
            raise error
        self.report(error_line(error, subject))

    def report(self, line: str) -> None:
        """Take a reason, in one line, and print it."""
        self.lines.append(line)
        print(f"error: {line}", file=sys.stderr)

    def finish(self) -> None:
        """End a run.

        Raises:
            InputError: when a scan failed, with the number of them and the first reason.
        """
        if not self.lines:
            return
        count = f"{len(self.lines)} of {max(self.scans, len(self.lines))}"
        raise InputError("scans", f"{count} failed, the first being {self.lines[0]}", code="dataset")
