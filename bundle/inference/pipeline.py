"""Items that pass through stages, the last one a thread behind the others, in order; one bad item costs only itself.

While the last stage is at an item, the others are at the next one, in the caller's thread: there PyTorch may keep the
memory that it frees (glibc gives a thread's large blocks back each time), and there Ctrl-C and SIGTERM arrive. Whatever
ends the block, the last stage first ends with what it is at: results are written whole. One item lies between two
stages at most. ``tests/bundle/inference/test_pipeline.py`` holds this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bundle.errors import BundleWarning
from bundle.warned import warnings_kept

Stage = Callable[[Any], Any]


@dataclass
class Outcome:
    """What the stages made of an item.

    Attributes:
        item: what went in.
        warnings: what this bundle warned of on the way, in order.
    """

    item: Any
    warnings: list[BundleWarning] = field(default_factory=list)
    _value: Any = None
    _error: Exception | None = None

    def get(self) -> Any:
        """Return what the last stage returned, or raise what one of them raised; those after it saw nothing."""
        if self._error is not None:
            raise self._error
        return self._value

    def passed_through(self, stage: Stage) -> Outcome:
        """Put the value through a stage, unless an earlier one failed, and return itself."""
        if self._error is not None:
            return self
        value, self._value = self._value, None
        with warnings_kept() as kept:
            try:
                self._value = stage(value)
            except Exception as error:  # the caller's to judge
                self._error = error
        self.warnings += kept
        return self


@contextmanager
def pipeline(items: Iterable[Any], *stages: Stage, overlap: bool = True) -> Iterator[Iterator[Outcome]]:
    """Give the outcomes of items, in their order, each once the next item has passed all stages but the last.

    A single item passes all of them in the caller's thread.

    Args:
        items: what goes in.
        stages: what an item passes through, the first one first; each gets what the one before returned.
        overlap: whether the last stage has a thread of its own; without it, items go one after another.
    """
    items = list(items)
    if len(items) < 2 or not stages or not overlap:
        yield (_made(item, stages) for item in items)
        return
    pool = ThreadPoolExecutor(1, "last stage")
    try:
        yield _staggered(items, stages[:-1], stages[-1], pool)
    finally:
        pool.shutdown(cancel_futures=True)


def _made(item: Any, stages: Sequence[Stage]) -> Outcome:
    outcome = Outcome(item, _value=item)
    for stage in stages:
        outcome.passed_through(stage)
    return outcome


def _staggered(
    items: Sequence[Any], ahead: Sequence[Stage], last: Stage, pool: ThreadPoolExecutor
) -> Iterator[Outcome]:
    behind: Future[Outcome] | None = None
    for item in items:
        outcome = _made(item, ahead)
        if behind is not None:
            yield behind.result()
        behind = pool.submit(outcome.passed_through, last)
        del outcome  # the last stage lets go of its value
    if behind is not None:
        yield behind.result()
