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


def test_stages_run_beside_the_caller_and_one_another_and_no_further_ahead():
    meeting = threading.Barrier(3)  # breaks unless all three are at work at once
    made, taken, ahead = count(), [0], []

    def make(item):
        ahead.append(next(made) - taken[0])
        if item == 3:
            meeting.wait(10)
        return item

    def use(item):
        if item == 2:
            meeting.wait(10)
        return item

    with pipeline(range(12), make, use) as outcomes:
        for outcome in outcomes:
            taken[0] += 1
            if outcome.item == 1:
                meeting.wait(10)
            time.sleep(0.005)
    assert max(ahead) <= 3  # the caller has one, and one lies or is made in front of each of two stages


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, ValueError])
def test_stages_are_given_up_within_their_work_when_the_block_ends(ending):
    stages_left = []

    def forever(item):
        try:
            while item:
                time.sleep(0.001)
        except Exception:
            pytest.fail("taken for an error of the stage")
        finally:
            stages_left.append(item)
        return item

    started = time.perf_counter()

    def leave():
        with pipeline([0, 1, 2], forever, lambda item: item) as outcomes:
            assert next(outcomes).get() == 0
            raise ending

    with pytest.raises(ending):
        leave()
    assert time.perf_counter() - started < 5
    assert stages_left[0] == 0
    assert set(stages_left[1:]) <= {1}


def test_what_would_end_a_process_reaches_the_caller():
    def end(item):
        raise SystemExit(item)

    with pipeline([3, 4], end) as outcomes, pytest.raises(SystemExit, match="3"):
        next(outcomes).get()
