"""Where the scans of a cohort are segmented: in this process, or on workers (``bundle.cohort.dispatch``)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from bundle.cohort.attempts import attempts, make_segmenter
from bundle.cohort.messages import FAILED, Case, Outcome, Readiness, Settings
from bundle.cohort.worker import readiness_of
from bundle.errors import CohortError

if TYPE_CHECKING:
    from bundle.inference.segmenter import Segmenter


class Runner(Protocol):
    """Where scans are segmented."""

    def ready(self) -> Readiness:
        """Return what the first worker says once its model is loaded.

        Raises:
            CohortError: when none can work.
        """

    def run(self, cases: Iterable[Case]) -> Generator[Outcome, None, None]:
        """Segment scans and yield what becomes of each, in the order in which they end; to be closed if not used up.

        Raises:
            CohortError: when no worker is left that can work.
        """


class InProcess:
    """Segments scan after scan in this process, those that are tried again after all others.

    Args:
        settings: how.
        retries: how often a scan is tried again.
        show: takes the plan of each scan and the progress of a long one, a line each.
    """

    NAME = "own"

    def __init__(self, settings: Settings, retries: int = 0, show: Callable[[str], None] | None = None) -> None:
        self.settings = settings
        self.retries = retries
        self.show = show

    def ready(self) -> Readiness:
        """Return what there is to say of the model, which is loaded.

        Raises:
            BundleError: when it cannot be used.
        """
        return readiness_of(self._segmenter)

    def run(self, cases: Iterable[Case]) -> Generator[Outcome, None, None]:
        """See :class:`Runner`."""
        waiting, number = list(cases), 1
        while waiting:
            again: list[Case] = []
            with closing(attempts(waiting, self._segmenter, self.settings)) as ended:
                for case, result in ended:
                    if result.status == FAILED and result.again and number <= self.retries:
                        again.append(case)
                    else:
                        yield Outcome(case, result, self.NAME, number)
            waiting, number = again, number + 1

    @cached_property
    def _segmenter(self) -> Segmenter:
        segmenter = make_segmenter(self.settings)
        if self.show is not None:
            segmenter.show_plans(self.show)
        return segmenter


def usable(readiness: Readiness) -> Readiness:
    """Return what a worker says, unless it says that it cannot work.

    Raises:
        CohortError: with its reason.
    """
    if readiness.error:
        subject, _, reason = readiness.error.partition(": ")
        raise CohortError(subject, reason or subject, code=readiness.code or None)
    return readiness
