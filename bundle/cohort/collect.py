"""The tables of a cohort from the records that are there: no model is loaded and nothing is segmented."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from bundle.cohort.messages import FAILED, SKIPPED, Case, Outcome, Readiness, Result
from bundle.cohort.resume import read_record
from bundle.cohort.rows import row_of
from bundle.errors import CohortError, error_line
from bundle.labels import Label
from bundle.results import OutputPaths


class Collector:
    """Takes the results that are there, as a :class:`bundle.cohort.run.Runner` does.

    Their hashes are not looked at: a run of the cohort does that.

    Args:
        cases: the scans.
        output_dir: folder of their results.
    """

    NAME = "none"

    def __init__(self, cases: Sequence[Case], output_dir: str | Path) -> None:
        self.cases = cases
        self.output_dir = Path(output_dir)

    def ready(self) -> Readiness:
        """Return the structures of the first result that can be read.

        Raises:
            CohortError: when there is none.
        """
        for case in self.cases:
            record = read_record(self._paths(case).record)
            if record is not None:
                named = [("Background", 0), *((name, row["code"]) for name, row in record["structures"].items())]
                labels = (Label(channel, code, name, (0, 0, 0)) for channel, (name, code) in enumerate(named))
                return Readiness("", 0, table=tuple(labels))
        raise CohortError(self.output_dir, f"found no result of {len(self.cases)} scans", "results are wanted")

    def run(self, cases: Iterable[Case]) -> Generator[Outcome, None, None]:
        """Yield what there is of each scan."""
        for case in cases:
            yield Outcome(case, self._result(case), self.NAME, 0)

    def _paths(self, case: Case) -> OutputPaths:
        return OutputPaths.of(case.image, case.folder(self.output_dir))

    def _result(self, case: Case) -> Result:
        paths = self._paths(case)
        record = read_record(paths.record)
        if record is None:
            found = "has no result" if not paths.record.exists() else f"{paths.record.name} cannot be read"
            return Result(FAILED, code="missing", reason=f"{found}; segment it first")
        try:
            return Result(SKIPPED, row_of(record, paths))
        except (OSError, LookupError, ValueError) as error:
            return Result(FAILED, code="damaged", reason=error_line(error, case.image))
