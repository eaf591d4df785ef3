"""Items that pass through stages, each stage in a thread of its own, in order, and one bad item costs only itself.

While the caller handles one item, the last stage is at the next one and the stage before it at the one after that. A
stage starts an item once the next stage has taken the one before, so that no more than one item lies between two of
them. What is written belongs to the caller, in whose thread Ctrl-C and SIGTERM arrive; stages leave nothing behind when
they are given up. ``tests/bundle/inference/test_pipeline.py`` holds this.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bundle.errors import BundleWarning, GivenUp
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
    _error: BaseException | None = None

    def get(self) -> Any:
        """Return what the last stage returned, or raise what one of them raised; those after it saw nothing."""
        if self._error is not None:
            raise self._error
        return self._value

    def pass_through(self, stage: Stage) -> None:
        """Put the value through a stage, unless an earlier one failed."""
        if self._error is not None:
            return
        value, self._value = self._value, None
        with warnings_kept() as kept:
            try:
                self._value = stage(value)
            except GivenUp:
                raise
            except BaseException as error:  # the caller's to judge
                self._error = error
        self.warnings += kept


class _Slot:
    """Room for one outcome between two threads, reserved before it is made; ``None`` is the end of all."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reserved = self._filled = self._closed = False
        self._content: Outcome | None = None

    def reserve(self) -> None:
        """Wait until the last outcome was taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._reserved)
            self._check()
            self._reserved = True

    def put(self, outcome: Outcome | None) -> None:
        """Fill what was reserved."""
        with self._changed:
            self._check()
            self._content, self._filled = outcome, True
            self._changed.notify_all()

    def take(self) -> Outcome | None:
        """Wait for an outcome and make room for the next one."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._filled)
            self._check()
            outcome, self._content = self._content, None
            self._reserved = self._filled = False
            self._changed.notify_all()
            return outcome

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _check(self) -> None:
        if self._closed:
            raise GivenUp


def _work(stage: Stage, source: Iterator[Outcome | None], slot: _Slot) -> None:
    """Put outcomes through a stage until there are no more, or the work is given up."""
    try:
        while True:
            slot.reserve()
            outcome = next(source, None)
            if outcome is not None:
                outcome.pass_through(stage)
            slot.put(outcome)
            if outcome is None:
                return
            del outcome  # the next stage may let go of it sooner
    except GivenUp:
        pass


def _give_up(threads: Sequence[threading.Thread], slots: Sequence[_Slot]) -> None:
    """End the threads at their next line of Python, and wait for that."""
    for slot in slots:
        slot.close()
    for thread in threads:
        if thread.is_alive() and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(GivenUp))
    for thread in threads:
        thread.join()


@contextmanager
def pipeline(items: Iterable[Any], *stages: Stage) -> Iterator[Iterator[Outcome]]:
    """Give the outcomes of items, in their order; whatever ends the block ends the stages, too.

    A single item is put through the stages in the caller's thread, as it is asked for.

    Args:
        items: what goes in.
        stages: what an item passes through, the first one first; each gets what the one before returned.
    """
    items = list(items)
    if len(items) < 2 or not stages:
        yield _in_turn(items, stages)
        return
    slots = [_Slot() for _ in stages]
    sources = [iter([Outcome(item, _value=item) for item in items]), *(iter(slot.take, None) for slot in slots)]
    threads = [
        threading.Thread(target=_work, args=(stage, source, slot), name=f"stage {number}")
        for number, (stage, source, slot) in enumerate(zip(stages, sources, slots, strict=False), 1)
    ]
    try:
        for thread in threads:
            thread.start()
        yield sources[-1]
    finally:
        _give_up(threads, slots)


def _in_turn(items: Iterable[Any], stages: Sequence[Stage]) -> Iterator[Outcome]:
    for item in items:
        outcome = Outcome(item, _value=item)
        for stage in stages:
            outcome.pass_through(stage)
        yield outcome
