"""What a whole run leaves beside ``cohort.tsv``: outliers, a table for statistics, what columns mean, and a summary.

- ``cohort_outliers.tsv``: a line for each number that stands out of the cohort, see ``bundle.cohort.outliers``;
- ``cohort_participants.tsv``: one row a scan that has a result, numbers alone, for statistics;
- ``cohort.json``: description and units of the columns of the tables, as BIDS has it;
- ``cohort_summary.json``: how many scans ended how; written last, so that where it is, the others are whole.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.bids.entities import entities_of
from bundle.cohort.messages import DONE, FAILED, SKIPPED, TEXT, Outcome
from bundle.cohort.outliers import Outlier, find_outliers
from bundle.cohort.table import ASYMMETRY, FIXED, MISSING, CohortTable, cell
from bundle.errors import CODES
from bundle.io.whole import whole_file
from bundle.results.outliers import CONSISTENT, FEWEST, LIMIT
from bundle.results.totals import TOTALS

OUTLIERS, PARTICIPANTS, COLUMNS, SUMMARY = (
    "cohort_outliers.tsv", "cohort_participants.tsv", "cohort.json", "cohort_summary.json")  # fmt: skip
SUMMARY_VERSION = 1


@dataclass
class Tally:
    """Counts how scans end."""

    status: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    flagged: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count the end of a scan."""
        result = outcome.result
        self.status[result.status] += 1
        self.retried += outcome.attempts > 1
        if result.status == FAILED:
            self.codes[result.code or "unforeseen"] += 1
        if result.row is not None:
            self.flagged += bool(result.row.flags)
            self.flags.update(result.row.flags)
            self.versions[result.row.version] += 1

    @property
    def failed(self) -> int:
        """How many scans have no result."""
        return self.status[FAILED]


def write_summary(folder: Path, table: CohortTable, tally: Tally, run: Mapping[str, Any]) -> tuple[list[Outlier], Path]:
    """Look for outliers, finish the table and write what stands beside it.

    Args:
        folder: of the outputs.
        table: of the run, complete.
        tally: of the same scans.
        run: what the summary says of the run: when, for how long, by which workers.

    Returns:
        The outliers, and the path of the summary.
    """
    outliers = find_outliers(table.numbers(), table.measures)
    by_scan: dict[int, list[str]] = {}
    for outlier in outliers:
        by_scan.setdefault(outlier.scan, []).append(outlier.measure)
    table.finish(by_scan)
    _write(folder / PARTICIPANTS, _participants(table))
    ids = [line.split("\t", 1)[0] for line in _lines(table.path)] if outliers else []
    _write(folder / OUTLIERS, _outlier_lines(outliers, ids))
    _write_json(folder / COLUMNS, describe_columns(table.measures))
    content = {
        "summary_version": SUMMARY_VERSION,
        "scans": sum(tally.status.values()),
        **{status: tally.status[status] for status in (DONE, SKIPPED, FAILED)},
        "retried": tally.retried,
        "failed_by_code": dict(tally.codes.most_common()),
        "flagged": tally.flagged,
        "flags": dict(tally.flags.most_common()),
        "outlier_scans": len(by_scan),
        "bundle_versions": dict(tally.versions.most_common()),
        **run,
    }
    _write_json(folder / SUMMARY, content)
    return outliers, folder / SUMMARY


def forget_summary(folder: Path) -> None:
    """Take away the summary of an earlier run, which is about to be no longer true."""
    with suppress(FileNotFoundError):
        (folder / SUMMARY).unlink()


def describe_columns(measures: Sequence[str]) -> dict[str, Any]:
    """Return what the columns of the tables are, by name."""
    described: dict[str, Any] = {
        "participant_id": {"Description": "Participant, from the name of the scan; its id where the name says none"},
        "session_id": {"Description": "Session, from the name of the scan"},
        "id": {"Description": "Name of the scan in the tables and of its folder among the results"},
        "path": {"Description": "The scan"},
        "status": {
            "Levels": {
                DONE: "segmented by this run",
                SKIPPED: "the result of an earlier run holds",
                FAILED: "there is no result",
            }
        },
        "code": {"Description": "Kind of the error", "Levels": CODES},
        "reason": {"Description": "Of a failure; of a scan that was done, why an earlier result was made again"},
        "seconds": {"Description": "Time that the segmentation took", "Units": "s"},
        "peak_memory_mb": {"Description": "Most memory that the worker had held by then", "Units": "MB"},
        "worker": {"Description": "What segmented it, or found its result"},
        "attempts": {"Description": "How often it was tried"},
        "flags": {"Description": "Reasons to look twice, see docs/results.md, separated by semicolons"},
        "quality": {"Description": "Lowest predicted Dice of a group of structures, where the model predicts it"},
        "rating": {"Description": "Mark that a person gave on its page", "Levels": {"pass": "good", "fail": "bad"}},
        "rating_current": {"Description": "Whether the label map is still the one that was marked"},
        "rating_note": {"Description": "Note of that person"},
        "outliers": {
            "Description": f"Columns with a robust z-score beyond {LIMIT} in this cohort, the farthest first: distance "
            f"from the median over {CONSISTENT} MAD, of the logarithm for volumes; looked for from {FEWEST} scans on",
        },
    }
    for name in measures:
        if name.startswith(ASYMMETRY):
            pair = name.removeprefix(ASYMMETRY)
            described[name] = {"Description": f"(L - R) / mean of L and R of {pair}", "Units": "1"}
        else:
            definition = TOTALS[name].definition if name in TOTALS else f"Volume of {name}"
            described[name] = {"Description": definition, "Units": "mm^3"}
    return described


def _participants(table: CohortTable) -> Iterable[str]:
    yield "\t".join(("participant_id", "session_id", "id", *table.measures))
    for line in _lines(table.path):
        cells = line.split("\t")
        name, status = cells[0], cells[FIXED.index("status")]
        if status != FAILED:
            entities = entities_of(cells[FIXED.index("path")])
            participant = f"sub-{entities['sub']}" if "sub" in entities else name
            session = f"ses-{entities['ses']}" if "ses" in entities else MISSING
            yield "\t".join((participant, session, name, *cells[len(FIXED) :]))


def _outlier_lines(outliers: Sequence[Outlier], ids: Sequence[str]) -> Iterable[str]:
    yield "\t".join(("id", "measure", "value", "median", "robust_z"))
    for outlier in outliers:
        numbers = (f"{outlier.value:.6g}", f"{outlier.median:.6g}", outlier.z)
        yield "\t".join((ids[outlier.scan], outlier.measure, *map(cell, numbers)))


def _lines(path: Path) -> Iterable[str]:
    """Yield the lines of a finished table, without its header."""
    with open(path, newline="", **TEXT) as file:
        next(file)
        for line in file:
            yield line.rstrip("\n")


def _write(path: Path, lines: Iterable[str]) -> None:
    with whole_file(path, overwrite=True) as unfinished, open(unfinished, "w", newline="", **TEXT) as file:
        file.writelines(f"{line}\n" for line in lines)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with whole_file(path, overwrite=True) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
