"""``cohort.tsv``: a line for each scan of a cohort, written as scans end, and whole at any time.

Each line is added in one piece; where the disk is full, what was written of it is taken back. Lines come in the order
in which scans end, and at the end of the run they are put in the order of the cohort. ``n/a`` stands for what is not
there, as in BIDS. ``tests/bundle/cohort/test_table.py`` holds it.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from bundle.cohort.messages import TEXT, Outcome
from bundle.cohort.rows import Row
from bundle.errors import WriteError
from bundle.io.names import shown_id
from bundle.io.whole import FULL, whole_file
from bundle.results.ratings import Rating
from bundle.results.totals import TOTALS

FIXED = (
    *("id", "path", "status", "code", "reason", "seconds", "peak_memory_mb", "worker", "attempts"),
    *("flags", "quality", "outliers", "rating", "rating_current", "rating_note"),
)
OUTLIERS = FIXED.index("outliers")
MISSING = "n/a"
ASYMMETRY = "asymmetry_"


def measures_of(structures: Sequence[str], pairs: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns with numbers of anatomy: totals, volumes, asymmetries.

    Args:
        structures: names of the structures.
        pairs: names, without a side, of those that are there on both.
    """
    return (*TOTALS, *structures, *(f"{ASYMMETRY}{name}" for name in pairs))


class CohortTable:
    """The table of a run.

    Args:
        path: the file; an earlier one is replaced.
        measures: see :func:`measures_of`.
        ratings: marks that people gave, by id as pages have it.

    Raises:
        WriteError: when it cannot be written.
    """

    def __init__(self, path: Path, measures: Sequence[str], ratings: Mapping[str, Rating] | None = None) -> None:
        self.path = path
        self._ratings = ratings or {}
        self.measures = tuple(measures)
        self._places, self._starts = array("q"), array("q")
        with whole_file(path, overwrite=True) as unfinished:
            unfinished.write_text(_line((*FIXED, *self.measures)), **TEXT)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def __enter__(self) -> CohortTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing can be added any more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def add(self, place: int, outcome: Outcome) -> None:
        """Add the line of a scan.

        Args:
            place: of the scan in the cohort.
            outcome: what became of it.

        Raises:
            WriteError: when the disk is full; the table is then as it was before.
        """
        line = _line(self._fields(outcome)).encode(**TEXT)
        start = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, start)
            wanted = "free space is wanted" if error.errno in FULL else "a file that can be written is wanted"
            raise WriteError(self.path, f"cannot be written ({error.strerror})", wanted) from error
        self._places.append(place)
        self._starts.append(start)

    def lines(self) -> Iterator[str]:
        """Yield the lines in the order of the cohort, without the header and the ends of lines."""
        with open(self.path, "rb") as file:
            for index in np.argsort(np.array(self._places), kind="stable"):
                file.seek(self._starts[index])
                yield file.readline().decode(**TEXT).rstrip("\n")

    def numbers(self) -> NDArray[np.float32]:
        """Return the measures of all scans in the order of the cohort, shape (scans, measures), NaN for none."""
        rows = np.full((len(self._places), len(self.measures)), np.nan, dtype=np.float32)
        for row, line in zip(rows, self.lines(), strict=True):
            row[:] = [np.nan if cell == MISSING else float(cell) for cell in line.split("\t")[len(FIXED) :]]
        return rows

    def finish(self, outliers: Mapping[int, Sequence[str]]) -> None:
        """Close the table, put its lines in order and say which measures are outliers.

        Args:
            outliers: names of measures by the number of the line.
        """
        self.close()
        with whole_file(self.path, overwrite=True) as unfinished, open(unfinished, "w", newline="", **TEXT) as file:
            file.write(_line((*FIXED, *self.measures)))
            for number, line in enumerate(self.lines()):
                cells = line.split("\t")
                if number in outliers:
                    cells[OUTLIERS] = ";".join(outliers[number])
                file.write(_line(cells))

    def _fields(self, outcome: Outcome) -> list[str]:
        result, row = outcome.result, outcome.result.row
        numbers: dict[str, float | None] = {}
        if row is not None:
            pairs = {f"{ASYMMETRY}{name}": value for name, value in row.asymmetries.items()}
            numbers = {**row.totals, **row.volumes, **pairs}
        peak = None if row is None or row.peak_memory is None else round(row.peak_memory / 1e6)
        fixed = (
            *(outcome.case.id, outcome.case.image, result.status, result.code, result.reason),
            *(result.seconds if row is None else row.seconds, peak, outcome.worker, outcome.attempts),
            *(";".join(row.flags) if row else None, row.quality if row else None, None),
            *self._rating(outcome.case.id, row),
        )
        return [*map(cell, fixed), *(cell(numbers.get(name)) for name in self.measures)]

    def _rating(self, name: str, row: Row | None) -> tuple[str | None, ...]:
        """Return the mark of a scan, whether it is of the label map that is there now, and the note."""
        rating = self._ratings.get(shown_id(name))
        if rating is None:
            return None, None, None
        current = None if row is None else str(rating.label_map_sha256 == row.label_map_sha256).lower()
        return rating.rating, current, rating.note


def cell(value: object) -> str:
    """Return a value as a table has it: in one line, without tabs."""
    if value is None or value == "":
        return MISSING
    return " ".join(str(value).split())


def _line(fields: Sequence[str]) -> str:
    return "\t".join(fields) + "\n"
