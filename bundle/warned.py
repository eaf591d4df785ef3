"""Warnings of this bundle, given at once or kept for whoever does the work at hand.

Python's own way to keep warnings (``warnings.catch_warnings``) is one for all threads: what is given while another scan
is read would end up in the wrong record. ``tests/bundle/test_warned.py`` holds this.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from bundle.errors import BundleWarning

_KEPT: ContextVar[list[BundleWarning] | None] = ContextVar("kept", default=None)


def warn(warning: BundleWarning, stacklevel: int = 1) -> None:
    """Give a warning, unless this thread keeps them.

    Args:
        warning: the warning.
        stacklevel: whose line is at fault, as ``warnings.warn`` has it: 1 is the caller's.
    """
    kept = _KEPT.get()
    if kept is None:
        warnings.warn(warning, stacklevel=stacklevel + 1)
    else:
        kept.append(warning)


@contextmanager
def warnings_kept() -> Iterator[list[BundleWarning]]:
    """Keep what this thread warns of inside the block in a list, in order, repeated ones too."""
    kept: list[BundleWarning] = []
    token = _KEPT.set(kept)
    try:
        yield kept
    finally:
        _KEPT.reset(token)
