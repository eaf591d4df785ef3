"""A run over a cohort, from the first worker to the last table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from bundle.cohort.cases import Cohort
from bundle.cohort.log import RunLog
from bundle.cohort.messages import Outcome, Readiness
from bundle.cohort.outliers import Outlier
from bundle.cohort.run import Runner
from bundle.cohort.summary import Tally, forget_summary, write_summary
from bundle.cohort.table import CohortTable, measures_of
from bundle.io.whole import sweep
from bundle.labels import split_side
from bundle.results import OutputPaths
from bundle.results.ratings import Rating

TABLE = "cohort.tsv"


@dataclass(frozen=True)
class Report:
    """How a run ended.

    Attributes:
        tally: how many scans ended how.
        table: path of the table.
        outliers: of the whole cohort; empty in a run of a part.
        log: path of the log.
    """

    tally: Tally
    table: Path
    outliers: Sequence[Outlier]
    log: Path


def run_cohort(
    cohort: Cohort,
    runner: Runner,
    output_dir: str | Path,
    part: str = "",
    log_dir: str | Path = "",
    on_ready: Callable[[Readiness], None] = lambda readiness: None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    ratings: Mapping[str, Rating] | None = None,
) -> Report:
    """Segment a cohort and write its tables; whoever calls holds the lock of the output folder.

    A run of a part leaves its table beside its log, ``logs/cohort_TIME_PART.tsv``; a run over all makes the cohort's.

    Args:
        cohort: the scans.
        runner: where they are segmented.
        output_dir: folder of the results.
        part: name of a part, such as a shard; empty for the whole.
        log_dir: folder of the folder of logs; that of the results where empty.
        on_ready: called once, when the first worker can work.
        on_outcome: called for each scan as it ends.
        ratings: marks that people gave, for the table.

    Raises:
        CohortError: when no worker can work.
        WriteError: when tables or log cannot be written.
    """
    folder = Path(output_dir)
    clock = time.perf_counter()
    with RunLog(log_dir or folder) as log:
        log.line(f"{len(cohort.cases)} scans, {len(cohort.refused)} refused; waiting for a worker")
        readiness = runner.ready()
        on_ready(readiness)
        log.line(f"engine {readiness.engine} on {readiness.host}")
        path = log.path.with_name(f"{log.path.stem}_{part}.tsv") if part else folder / TABLE
        if not part:
            forget_summary(folder)
        tally = Tally()
        names = readiness.structures
        with (
            CohortTable(path, measures_of(names, pairs_of(names)), ratings) as table,
            closing(runner.run(cohort.cases)) as outcomes,
        ):
            places = {case.id: place for place, case in enumerate(cohort.cases)}
            refused = enumerate(cohort.refusals(), len(cohort.cases))
            for place, outcome in chain(refused, ((places[outcome.case.id], outcome) for outcome in outcomes)):
                _sweep_after(outcome, folder)
                table.add(place, outcome)
                tally.add(outcome)
                log.outcome(outcome)
                on_outcome(outcome)
            log.line(f"all scans have ended, {tally.failed} of them without a result")
            if part:
                table.finish({})
                return Report(tally, path, [], log.path)
            outliers, _ = write_summary(folder, table, tally, _run_facts(log, clock, readiness))
    return Report(tally, path, outliers, log.path)


def _sweep_after(outcome: Outcome, folder: Path) -> None:
    """Take away what a worker that ended has left of a scan."""
    if outcome.result.code == "worker":
        sweep(OutputPaths.of(outcome.case.image, outcome.case.folder(folder)).record.parent, settled=0)


def pairs_of(structures: Sequence[str]) -> tuple[str, ...]:
    """Return the names, without a side, of the structures that are there on both."""
    split = [split_side(name) for name in structures]
    right = {name for side, name in split if side == "right"}
    return tuple(name for side, name in split if side == "left" and name in right)


def _run_facts(log: RunLog, clock: float, readiness: Readiness) -> dict[str, Any]:
    return {
        "engine": readiness.engine,
        "made_by": dict(readiness.maker),
        "run": {
            "started": log.started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 3),
            "log": log.path.name,
        },
    }
