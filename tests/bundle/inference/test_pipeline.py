"""Items pass stages in threads of their own, in order; errors and warnings stay with theirs, and the end is clean."""

from __future__ import annotations

import random
import threading
import time
from itertools import count

import pytest

from bundle.errors import GeometryWarning, InputError
from bundle.inference.pipeline import pipeline
from bundle.warned import warn


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def slowly(stage):
    """Take a random while, so that threads meet in every order."""
    draw = random.Random(7)

    def run(value):
        time.sleep(draw.random() / 200)
        return stage(value)

    return run


@pytest.mark.parametrize("length", [0, 1, 2, 25])
def test_outcomes_are_those_of_a_loop_in_order_with_their_errors_and_warnings(length):
    def halve(number):
        if number % 3 == 0:
            warn(GeometryWarning(f"{number} is of three"))
        if number % 5 == 4:
            raise InputError(f"{number}.nii", "found nothing")
        return number / 2

    def name(half):
        warn(GeometryWarning(f"half is {half}"))
        return f"{half:.1f}"

    with pipeline(range(length), slowly(halve), slowly(name)) as outcomes:
        for number in range(length):
            outcome = next(outcomes)
            assert outcome.item == number
            expected = [f"{number} is of three"] * (number % 3 == 0)
            if number % 5 == 4:
                with pytest.raises(InputError, match=f"^{number}.nii: found nothing"):
                    outcome.get()
            else:
                assert outcome.get() == f"{number / 2:.1f}"
                expected.append(f"half is {number / 2}")
            assert [str(warning) for warning in outcome.warnings] == expected
        assert list(outcomes) == []


def test_last_stage_runs_beside_the_caller_and_no_further_behind():
    meeting = threading.Barrier(2)  # breaks unless both are at work at once
    made, written, ahead = count(), [], []

    def make(item):
        assert threading.current_thread() is threading.main_thread()
        ahead.append(next(made) - len(written))
        if item == 3:
            meeting.wait(10)
        return item

    def write(item):
        if item == 2:
            meeting.wait(10)
        time.sleep(0.005)
        written.append(item)
        return item

    with pipeline(range(12), make, write) as outcomes:
        for number, outcome in enumerate(outcomes):
            assert outcome.item == number
            assert number in written
    assert written == list(range(12))
    assert max(ahead) <= 2  # one is made while one is written, and none lies between for longer


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, ValueError])
def test_last_stage_ends_with_what_it_is_at_when_the_block_ends(ending):
    begun, written = threading.Event(), []

    def make(item):
        if item == 1:
            assert begun.wait(10)
            raise ending
        return item

    def write(item):
        begun.set()
        time.sleep(0.05)
        written.append(item)

    def leave():
        with pipeline([0, 1, 2], make, write) as outcomes:
            for outcome in outcomes:
                outcome.get()

    with pytest.raises(ending):
        leave()
    assert written == [0]


def test_what_would_end_a_process_reaches_the_caller():
    def end(item):
        raise SystemExit(item)

    with pipeline([3, 4], end) as outcomes, pytest.raises(SystemExit, match="3"):
        next(outcomes).get()
