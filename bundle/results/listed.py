"""What a folder of results says of its scans beside their records: the table of a cohort, or the records of runs.

Scans that failed stand there and nowhere else. ``tests/bundle/results/test_listed.py`` holds it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import InputError
from bundle.io.names import volume_stem

TABLE = "cohort.tsv"
RUNS = "run_*.json"
NEEDED = ("id", "path", "status")
MISSING = "n/a"
"""What stands in a cohort's table for nothing, as in BIDS."""


@dataclass(frozen=True)
class Listed:
    """A scan of a run: where it was (empty where nobody says), what became of it, and why."""

    path: str
    status: str
    reason: str = ""

    @property
    def line(self) -> str:
        """Status and reason."""
        return f"{self.status}: {self.reason}" if self.reason else self.status


def read_listed(folder: str | Path) -> dict[str, Listed]:
    """Return the scans that a cohort's table lists, by id; without one, those that failed in the latest runs, by name.

    Raises:
        InputError: when the table, or a record of a run, cannot be read.
    """
    folder = Path(folder)
    table = folder / TABLE
    return _cohort(table) if table.is_file() else _failures(folder)


def _cohort(path: Path) -> dict[str, Listed]:
    def text(row: Mapping[str, str | None], column: str) -> str:
        value = row.get(column) or ""
        return "" if value == MISSING else value

    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            missing = [column for column in NEEDED if column not in (reader.fieldnames or [])]
            if missing:
                raise ValueError(f"no column {missing[0]}")
            return {
                text(row, "id"): Listed(text(row, "path"), text(row, "status"), text(row, "reason")) for row in reader
            }
    except (ValueError, csv.Error) as error:
        wanted = f"a table with the columns {', '.join(NEEDED)} is wanted"
        raise InputError(path, f"cannot be read as a cohort's table ({error})", wanted) from error


def _failures(folder: Path) -> dict[str, Listed]:
    """Return what failed in a run and in no later one was segmented."""
    found: dict[str, Listed] = {}
    for path in sorted(folder.glob(RUNS)):  # their names hold the time
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            for scan in content["segmented"]:
                found.pop(scan["result"], None)
            for scan in content["failed"]:
                found[volume_stem(scan["name"])] = Listed("", "failed", scan["reason"])
        except (KeyError, TypeError, ValueError) as error:
            wanted = "see configs/run.schema.json"
            raise InputError(path, f"cannot be read as the record of a run ({error})", wanted) from error
    return found
