"""Where the scans of a cohort are segmented: in this process, or on workers (``bundle.cohort.dispatch``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from bundle.cohort.messages import FAILED, Case, Outcome, Readiness, Settings
from bundle.cohort.worker import prepare, segment_case
from bundle.errors import CohortError


class Runner(Protocol):
    """Where scans are segmented."""

    def ready(self) -> Readiness:
        """Return what the first worker says once its model is loaded.

        Raises:
            CohortError: when none can work.
        """

    def run(self, cases: Iterable[Case]) -> Iterator[Outcome]:
        """Segment scans and yield what becomes of each, in the order in which they end.

        Raises:
            CohortError: when no worker is left that can work.
        """


class InProcess:
    """Segments scan after scan in this process.

    Args:
        settings: how.
        retries: how often a scan is tried again.
    """

    NAME = "own"

    def __init__(self, settings: Settings, retries: int = 0) -> None:
        self.settings = settings
        self.retries = retries

    def ready(self) -> Readiness:
        """See :class:`Runner`."""
        return usable(prepare(self.settings))

    def run(self, cases: Iterable[Case]) -> Iterator[Outcome]:
        """See :class:`Runner`."""
        for case in cases:
            result, attempts = segment_case(case, self.settings), 1
            while result.status == FAILED and result.again and attempts <= self.retries:
                result, attempts = segment_case(case, self.settings), attempts + 1
            yield Outcome(case, result, self.NAME, attempts)


def usable(readiness: Readiness) -> Readiness:
    """Return what a worker says, unless it says that it cannot work.

    Raises:
        CohortError: with its reason.
    """
    if readiness.error:
        subject, _, reason = readiness.error.partition(": ")
        raise CohortError(subject, reason or subject, code=readiness.code or None)
    return readiness
