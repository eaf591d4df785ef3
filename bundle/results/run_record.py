"""The record of a run over folders, ``run_TIME.json``: which scans were segmented, which failed, what was left out.

The records of scans say what each result was made of; this one says what became of everything that the folders held.
Its name has the time when the run started (UTC), so that several runs go into one folder and none replaces another's.
It holds names and no folders. ``configs/run.schema.json`` describes every field, and
``tests/bundle/results/test_run_record.py`` holds it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

from bundle.io.names import output_path
from bundle.io.whole import whole_file
from bundle.provenance import bundle_version
from bundle.results.record import write_json

RUN_VERSION = 1


class RunRecord:
    """Collects what becomes of the scans of a run.

    Args:
        inputs: files and folders as they were given.
        output_dir: folder of the results, and of this record.
        scans: what the inputs stand for.
        left_out: of everything else that folders hold its path and what it is.
    """

    def __init__(
        self,
        inputs: Sequence[str | Path],
        output_dir: str | Path,
        scans: Iterable[str | Path],
        left_out: Iterable[tuple[str, str]],
    ) -> None:
        self.inputs = [Path(entry) for entry in inputs]
        self.output_dir = Path(output_dir)
        self.left_out = [{"name": Path(path).name, "reason": reason} for path, reason in left_out]
        self.done: list[dict[str, str]] = []
        self.failures: list[dict[str, str | None]] = []
        self._folders = {str(path.parent) for path in (*map(Path, scans), *self.inputs)}
        self._folders |= {str(path) for path in self.inputs} | {str(output_dir)}
        self._started = datetime.now(timezone.utc)
        self._clock = time.perf_counter()

    def segmented(self, path: str | Path) -> None:
        """Note that a scan has its results."""
        self.done.append({"name": Path(path).name, "result": output_path(path, self.output_dir).parent.name})

    def failed(self, path: str | Path, code: str | None, reason: str) -> None:
        """Note that a scan has none, and why: the code of the error, if it has one, and a line."""
        self.failures.append({"name": Path(path).name, "code": code, "reason": self._without_folders(reason)})

    def content(self) -> dict[str, Any]:
        """Return the record."""
        return {
            "run_version": RUN_VERSION,
            "bundle": bundle_version(),
            "inputs": [path.absolute().name for path in self.inputs],
            "segmented": self.done,
            "failed": self.failures,
            "left_out": self.left_out,
            "run": {
                "started": self._started.isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - self._clock, 3),
            },
        }

    def write(self) -> Path:
        """Write the record and return its path, a new one.

        Raises:
            WriteError: when it cannot be written.
        """
        stem = f"run_{self._started:%Y%m%dT%H%M%SZ}"
        names = (f"{stem}{'' if number == 1 else f'_{number}'}.json" for number in count(1))
        path = next(path for name in names if not (path := self.output_dir / name).exists())
        with whole_file(path) as unfinished:
            write_json(self.content(), unfinished)
        return path

    def _without_folders(self, line: str) -> str:
        """Return a line without the folders that names in it lay in, the deepest first."""
        for folder in sorted(self._folders - {".", "/"}, key=len, reverse=True):
            line = re.sub(rf"(?<![^\s(:;]){re.escape(folder)}/", "", line)
        return line
