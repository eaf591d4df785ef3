"""The log file of a run: when each scan ended, how, where, and what was warned of."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from types import TracebackType

from bundle.cohort.messages import TEXT, Outcome

FOLDER = "logs"


class RunLog:
    """Appends lines to ``logs/cohort_TIME.log``; each run has its own.

    Args:
        output_dir: folder of the results.

    Raises:
        OSError: when it cannot be written.
    """

    def __init__(self, output_dir: str | Path) -> None:
        folder = Path(output_dir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self.started = datetime.now(timezone.utc)
        stem = f"cohort_{self.started:%Y%m%dT%H%M%SZ}"
        for number in count(1):
            self.path = folder / f"{stem}{'' if number == 1 else f'_{number}'}.log"
            try:
                self._file = open(self.path, "x", buffering=1, **TEXT)  # noqa: SIM115
            except FileExistsError:  # a run that started in the same second
                continue
            break

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.line(f"ended by {kind.__name__} {error}")
        self._file.close()

    def line(self, text: str) -> None:
        """Add a line with the time (UTC)."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self._file.write(f"{now} {' '.join(text.split())}\n")

    def outcome(self, outcome: Outcome) -> None:
        """Add what became of a scan."""
        result = outcome.result
        seconds = (
            f"{result.seconds:.1f} s"
            if result.row is None or result.row.seconds is None
            else f"{result.row.seconds:.1f} s"
        )
        reason = f": {result.reason}" if result.reason else ""
        attempts = f", attempt {outcome.attempts}" if outcome.attempts > 1 else ""
        self.line(f"{outcome.case.id} {result.status}, {seconds}, worker {outcome.worker}{attempts}{reason}")
        for warning in result.warnings:
            self.line(f"{outcome.case.id} warning: {warning}")
