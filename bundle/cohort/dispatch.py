"""Scans on the workers of a Dask cluster: one at a time each, and known by name when a worker ends.

Dask starts workers, carries calls and results, and watches over memory. Which scan goes where is settled here, so that
a worker's end costs the one scan that it had: a worker gets a scan when it has finished the one before. Nothing waits
in Dask's scheduler, which keeps its memory and that of this process the same for ten scans and a million.
``tests/bundle/cohort/test_dispatch.py`` kills workers to hold it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bundle.cohort.messages import DONE, FAILED, SKIPPED, Case, Outcome, Readiness, Result, Settings
from bundle.cohort.run import usable
from bundle.cohort.worker import prepare_process, segment_case
from bundle.errors import BundleWarning, CohortError, error_line

if TYPE_CHECKING:
    from distributed import Client, Future

PERIOD = 0.5
"""Seconds between two looks at which workers there are."""
MOST_ENDS = 3
"""Workers that may end in a row while they load the model, before none has."""
PATIENCE = 300.0
"""Seconds without a worker after which none of this machine will come any more: its nanny has given up."""
LOST = "its worker ended while it was segmented (killed, or out of memory)"

Prepare = Callable[[Settings], Readiness]
Segment = Callable[[Case, Settings], Result]


@dataclass(frozen=True)
class Attempt:
    """A scan that is to be tried, or is being tried."""

    case: Case
    number: int = 1


@dataclass
class Worker:
    """A worker that is there.

    Attributes:
        name: as the scheduler has it.
        has_nanny: whether somebody starts it anew.
        future: what it is at.
        attempt: the scan of it; ``None`` while the model is loaded.
        is_ready: whether its model is loaded.
        is_leaving: whether it gets nothing more.
    """

    name: str
    has_nanny: bool
    future: Future[Any] | None = None
    attempt: Attempt | None = None
    is_ready: bool = False
    is_leaving: bool = False


class OnDask:
    """Segments scans on the workers of a cluster; workers may come and go.

    Args:
        client: of the cluster.
        settings: how.
        retries: how often a scan is tried again, each time in a fresh process.
        patience: seconds without any worker after which the run ends; ``None`` where jobs may wait in a queue.
        calls: what loads the model in a worker, and what segments a scan there.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        retries: int = 0,
        patience: float | None = PATIENCE,
        calls: tuple[Prepare, Segment] = (prepare_process, segment_case),
    ) -> None:
        self.client = client
        self.settings = settings
        self.retries = retries
        self._workers: dict[str, Worker] = {}
        self._again: deque[Attempt] = deque()
        self._ended: queue.SimpleQueue[tuple[str, Future[Any]]] = queue.SimpleQueue()
        self._patience = patience
        self._prepare, self._segment = calls
        self._looked = 0.0
        self._seen = time.monotonic()
        self._first: Readiness | None = None
        self._ends = 0
        self._refused: Readiness | None = None

    def ready(self) -> Readiness:
        """See :class:`bundle.cohort.run.Runner`."""
        while self._first is None:
            for _ in self._events():
                pass
        return self._first

    def run(self, cases: Iterable[Case]) -> Generator[Outcome, None, None]:
        """See :class:`bundle.cohort.run.Runner`."""
        waiting = map(Attempt, cases)
        while self._fill(waiting) or self._again:
            yield from self._events()

    def _fill(self, waiting: Iterator[Attempt]) -> bool:
        """Give each idle worker a scan, and tell whether any is being tried."""
        for address, worker in self._workers.items():
            if worker.is_ready and not worker.is_leaving and worker.future is None:
                attempt = self._again.popleft() if self._again else next(waiting, None)
                if attempt is None:
                    break
                worker.attempt = attempt
                self._submit(address, worker, self._segment, attempt.case, self.settings)
        busy = any(worker.attempt is not None for worker in self._workers.values())
        if not busy and not self._again and (attempt := next(waiting, None)) is not None:
            self._again.append(attempt)  # no worker is there for it now
        return busy

    def _submit(self, address: str, worker: Worker, call: Any, *arguments: object) -> None:
        worker.future = self.client.submit(call, *arguments, workers=[address], allow_other_workers=False, pure=False)
        worker.future.add_done_callback(lambda future: self._ended.put((address, future)))

    def _events(self) -> Iterator[Outcome]:
        """Wait a moment for what happens, and yield the scans that have come to an end by it."""
        yield from self._look()
        try:
            address, future = self._ended.get(timeout=PERIOD)
        except queue.Empty:
            return
        worker = self._workers.get(address)
        if worker is None or worker.future is not future:
            return  # of a worker that has been given up
        worker.future = None
        if worker.attempt is not None:
            if outcome := self._judge(address, worker, self._result(address, future)):
                yield outcome
        elif readiness := self._readiness(address, future):
            self._meet(worker, readiness)

    def _result(self, address: str, future: Future[Any]) -> Result:
        try:
            result: Result | None = self._fetch(address, future)
        except Exception as error:  # segment_case raises none: it did not come to that
            return Result(FAILED, None, None, error_line(error), True)
        return result or Result(FAILED, None, "worker", LOST, True)

    def _readiness(self, address: str, future: Future[Any]) -> Readiness | None:
        """Return what a worker says, ``None`` where it has gone: the next look misses it."""
        try:
            readiness: Readiness | None = self._fetch(address, future)
        except Exception as error:
            hint = "; start workers with PYTHONPATH naming the bundle" if isinstance(error, ImportError) else ""
            return Readiness("unknown", 0, error=f"worker: {error_line(error)}{hint}", code="cohort")
        return readiness

    def _fetch(self, address: str, future: Future[Any]) -> Any:
        """Return what a call returned, ``None`` where that is lost with its worker, or raise what it raised.

        A call that has finished may be lost too: what it returned lies with the worker until it is fetched.
        """
        while not _was_lost(future):
            try:
                return future.result(timeout=PERIOD)
            except (TimeoutError, asyncio.TimeoutError):
                if address not in self._present():
                    break
        return None

    def _look(self) -> Iterator[Outcome]:
        """Take note of workers that have come, and of those that have gone with a scan."""
        if time.monotonic() - self._looked < PERIOD:
            return
        present = self._present()
        self._looked = time.monotonic()
        if present:
            self._seen = self._looked
        elif self._patience is not None and self._looked - self._seen > self._patience:
            raise CohortError("workers", f"there was none for {self._patience:.0f} s", "more memory for each, or fewer")
        for address in set(self._workers) - set(present):
            worker = self._workers.pop(address)
            if worker.future is not None:
                with suppress(Exception):
                    worker.future.cancel()
            if worker.attempt is not None and (
                outcome := self._judge("", worker, Result(FAILED, None, "worker", LOST, True))
            ):
                yield outcome
            elif not worker.is_ready and not worker.is_leaving:
                self._ended_early()
        for address in set(present) - set(self._workers):
            said = present[address]
            self._workers[address] = Worker(str(said["name"]), bool(said["nanny"]))
            self._submit(address, self._workers[address], self._prepare, self.settings)

    def _present(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = dict(self.client.scheduler_info(n_workers=-1)["workers"])
        except Exception as error:  # whatever a broken connection raises
            line = f"the scheduler does not answer ({error_line(error)})"
            raise CohortError("cluster", line, "a running one is wanted") from error
        return found

    def _ended_early(self) -> None:
        self._ends += 1
        if self._ends >= MOST_ENDS and not any(worker.is_ready for worker in self._workers.values()):
            found = f"{self._ends} in a row ended while they loaded the model"
            raise CohortError("workers", found, "more memory for each is wanted", "memory")

    def _meet(self, worker: Worker, said: Readiness) -> None:
        """Take a worker whose model is loaded, or refuse one that computes otherwise than the others."""
        if self._first is None and not said.error:
            self._first = said
        if said.error or (self._first is not None and said.maker != self._first.maker):
            worker.is_leaving = True
            reason = said.error or "it has another version, other weights or another config than the first worker"
            warnings.warn(BundleWarning(f"worker {worker.name} on {said.host}: gets no scan: {reason}"), stacklevel=2)
            self._refused = said
        else:
            worker.is_ready, self._ends = True, 0
        if self._refused is not None and all(worker.is_leaving for worker in self._workers.values()):
            usable(self._refused)

    def _judge(self, address: str, worker: Worker, result: Result) -> Outcome | None:
        """Return the outcome of an attempt, ``None`` where the scan is tried again."""
        attempt, worker.attempt = worker.attempt, None
        assert attempt is not None
        if attempt.number > 1 and result.status == SKIPPED:  # the attempt before was whole when its worker ended
            result = replace(result, status=DONE)
        if result.status != FAILED or not result.again or attempt.number > self.retries:
            return Outcome(attempt.case, result, worker.name, attempt.number)
        self._again.append(Attempt(attempt.case, attempt.number + 1))
        if worker.has_nanny and address:
            worker.is_leaving, worker.is_ready = True, False
            threading.Thread(target=self._restart, args=(address,), daemon=True).start()
        return None

    def _restart(self, address: str) -> None:
        """Let a worker's nanny start it anew; it comes back under another address."""
        with suppress(Exception):  # it may be gone by now
            self.client.restart_workers([address], raise_for_error=False)


def _was_lost(future: Future[Any]) -> bool:
    """Tell whether a call ended with its worker, and not by itself."""
    if future.status == "error":
        return type(future.exception()).__name__ == "KilledWorker"
    return bool(future.status != "finished")
