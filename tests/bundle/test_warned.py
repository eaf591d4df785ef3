"""Warnings are kept by the thread that asks for them, and by no other."""

from __future__ import annotations

import threading
import warnings

import pytest

from bundle.errors import FlagWarning, GeometryWarning
from bundle.warned import warn, warnings_kept


def test_each_thread_keeps_its_own_and_the_others_are_given():
    first_keeps, second_warned = threading.Event(), threading.Event()
    found: dict[str, list[str]] = {}

    def first() -> None:
        with warnings_kept() as kept:
            first_keeps.set()
            second_warned.wait(10)
            warn(GeometryWarning("of the first"))
        found["first"] = [str(warning) for warning in kept]

    thread = threading.Thread(target=first)
    thread.start()
    assert first_keeps.wait(10)
    with pytest.warns(FlagWarning, match="of the second") as given:
        warn(FlagWarning("of the second"))
    second_warned.set()
    thread.join()
    assert found["first"] == ["of the first"]
    assert [warning.filename for warning in given] == [__file__]


def test_inner_block_keeps_what_is_given_in_it_and_repeated_ones_count():
    with warnings.catch_warnings(), warnings_kept() as outer:
        warnings.simplefilter("error")
        with warnings_kept() as inner:
            for _ in range(2):
                warn(GeometryWarning("twice"))
        warn(GeometryWarning("after"))
    assert [str(warning) for warning in inner] == ["twice", "twice"]
    assert [str(warning) for warning in outer] == ["after"]
    with pytest.warns(GeometryWarning):
        warn(GeometryWarning("given again"))
