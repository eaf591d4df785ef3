"""Memory that a process keeps from scan to scan, see ``bundle.machine``.

Fresh pages for a head's feature maps are an eighth of a scan's CPU time, which is why they are kept. What was kept of a
scan serves one that takes no more; before one that takes more it is given back, since larger tensors find no place
between what lies there (``tests/bundle/inference/test_kept_memory.py``).
"""

from __future__ import annotations

from bundle.inference.calibration import resident
from bundle.machine import freed_memory_is_kept, give_back_freed_memory

MOST_KEPT = 1.1
"""Of what the first scan left: more than that is pieces between tensors, of which there would be more and more."""


class KeptMemory:
    """What this process keeps, if it was told to keep freed memory."""

    def __init__(self) -> None:
        self._largest = self._held = self._kept = 0

    def make_ready(self, size: int) -> bool:
        """Make ready for a scan, and tell whether its memory is to be asked for anew, so that it can be measured.

        Args:
            size: what scans are compared by, such as the bytes that they usually take.
        """
        if not freed_memory_is_kept():
            return True
        kept = held_memory() - self._held
        self._kept = self._kept or kept
        if size <= self._largest and kept <= MOST_KEPT * self._kept:
            return False
        give_back_freed_memory()
        self._largest, self._held, self._kept = size, held_memory(), 0
        return True

    def held(self) -> int:
        """Return the bytes that this process holds, but for what it keeps for the next scan."""
        return min(held_memory(), self._held) if freed_memory_is_kept() and self._held else held_memory()


def held_memory() -> int:
    """Return the bytes that this process holds, 0 where the system does not say."""
    try:
        return resident()
    except OSError:
        return 0


KEPT = KeptMemory()
"""That of this process."""
