"""What a scan will take, before it is run: windows, memory, seconds; refused in a line where memory does not suffice.

Memory is what the process holds already, and the most of what comes on top: while windows are added up, and while the
results are written. What a window takes was measured on an earlier one (``bundle.inference.calibration``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from pathlib import Path

import torch

from bundle.errors import InputError, OptionError
from bundle.inference.calibration import Calibration, Calibrations
from bundle.inference.finalists import Finalists
from bundle.inference.ranking import bytes_together
from bundle.inference.restore import PROBABILITY_BYTES
from bundle.inference.slabs import Windows
from bundle.inference.winners import UINT8_CLASSES
from bundle.machine import available_memory

UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
FLOAT = 4
WRITING = 12
"""Bytes of a voxel of the scan while it is written: the scan read again as stored and as float32, codes, picture."""
USUAL_BYTES = 500
"""Of a window's voxel in the shipped network, in float32."""
STEP = 8
"""Voxels by which windows are made smaller: networks halve their feature maps three times."""
SHRINK = 0.9
"""Of a window's longest side, again and again, while one is looked for that fits."""


def parse_size(size: str | int | float | None, name: str = "max_memory") -> int | None:
    """Return a number of bytes: ``3G``, ``800M`` or ``2500000000``, with or without a ``B``; ``None`` stays.

    Raises:
        OptionError: when it is none.
    """
    if size is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", str(size), re.IGNORECASE)
    number = int(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if number <= 0:
        raise OptionError(name, f"found {size!r}", "a size such as 3G or 800M is wanted")
    return number


@dataclass(frozen=True)
class Plan:
    """What a scan will take.

    Attributes:
        windows: where they lie.
        classes: number of classes.
        scan_voxels: voxels of the scan.
        one_piece: whether stray pieces are looked for.
        calibration: what a window takes; ``None`` before the first one.
        held: bytes that the process holds already.
        on_grid: whether the scan's voxels are the network's, so that no probabilities are interpolated.
        channels: of what windows give: features, or the logits of all classes where there is no number.
    """

    windows: Windows
    classes: int
    scan_voxels: int
    one_piece: bool
    calibration: Calibration | None
    held: int
    on_grid: bool = False
    channels: int | None = None

    @property
    def value_bytes(self) -> int:
        """Bytes of what a window gives of a voxel."""
        return FLOAT * (self.classes if self.channels is None else self.channels)

    @property
    def slab_bytes(self) -> int:
        """Bytes of the sums of what windows give, and of their weights."""
        if self.windows.single:
            return 0
        first, *others = self.windows.order
        planes = min(self.windows.window[first] + (not self.on_grid), self.windows.size[first])
        return planes * prod(self.windows.size[axis] for axis in others) * (self.value_bytes + FLOAT)

    @property
    def window_bytes(self) -> int:
        """Bytes of a call of the network; before the first one its answer's alone are known."""
        answer = self.value_bytes * prod(self.windows.window) * self.windows.batch
        return max(self.calibration.bytes, answer) if self.calibration else answer

    @property
    def usual_bytes(self) -> int:
        """Bytes of a call of the network if it were the shipped one, whatever is known of it."""
        return USUAL_BYTES * prod(self.windows.window) * self.windows.batch

    @property
    def more_bytes(self) -> int:
        """Bytes that come on top of what the process holds."""
        channels = self.scan_voxels * (1 if self.classes <= UINT8_CLASSES else 2)
        grid = prod(self.windows.size)
        several = self.one_piece and not self.windows.single
        finalists = Finalists.bytes_in_memory(self.classes, grid) if several else 0
        first, *others = self.windows.order
        plane = FLOAT * self.classes * prod(self.windows.size[axis] for axis in others)
        answer = self.value_bytes * grid if self.windows.single else 0
        probabilities = min(max(PROBABILITY_BYTES, 2 * plane), plane * self.windows.size[first])
        looked_at = 4 * bytes_together(torch.device("cpu"))  # logits of some voxels, and what comes of them
        margins = 2 * FLOAT * grid if self.windows.single else 0  # and winners
        reducing = margins + (looked_at if self.on_grid else max(probabilities, looked_at))
        running = self.slab_bytes + max(self.window_bytes, answer + reducing) + finalists
        if not self.windows.single:
            running += min(self.window_bytes, reducing)  # freed memory that is kept fits neither of them
        pieces = 7 * grid if several else 0  # winners, pieces as int32 and two masks
        return channels + max(running, pieces + finalists, WRITING * self.scan_voxels)

    @property
    def bytes(self) -> int:
        """The most bytes that the process will hold."""
        return self.held + self.more_bytes

    @property
    def seconds(self) -> float | None:
        """Seconds from the first window to the label map; ``None`` before the first window ever."""
        if self.calibration is None:
            return None
        return self.windows.count * self.calibration.seconds + self.calibration.rest * self.scan_voxels / 1e6

    def line(self) -> str:
        """Return all of it in one line."""
        shape = " x ".join(map(str, self.windows.window))
        count = "1 window" if self.windows.count == 1 else f"{self.windows.count} windows"
        along = "" if self.windows.single else f" along axis {self.windows.axis}"
        memory = f"{'about' if self.calibration else 'at least'} {self.bytes / 1e9:.1f} GB"
        seconds = "" if self.seconds is None else f", about {self.seconds:.0f} s"
        return f"{count} of {shape}{along}, {memory}{seconds}"


def room_for(max_memory: int | None, held: int) -> int | None:
    """Return the bytes that may come on top of what the process holds, ``None`` where nobody knows.

    Args:
        max_memory: most bytes that it may hold.
        held: bytes that it holds.
    """
    free = available_memory()
    if max_memory is None:
        return free
    return max_memory - held if free is None else min(free, max_memory - held)


def is_scarce(plan: Plan, max_memory: int | None) -> bool:
    """Tell whether a scan may not fit into memory, should a window take what the shipped network's does."""
    room = room_for(max_memory, plan.held)
    return room is not None and plan.more_bytes + plan.usual_bytes > room / 2


def make_plan(
    scan: str | Path,
    plan: Plan,
    calibrations: Calibrations,
    max_memory: int | None = None,
    smallest: Sequence[int] | None = None,
) -> Plan:
    """Return a plan that fits into memory, in smaller windows where that is allowed.

    Args:
        scan: file of the scan, to be named.
        plan: the one that is wanted.
        calibrations: what is known of windows here.
        max_memory: most bytes that the process may hold; what it can get by default.
        smallest: smallest window that the model allows; its usual one by default.

    Raises:
        InputError: when none fits, with the window that would.
    """
    room = room_for(max_memory, plan.held)
    if room is None or plan.more_bytes <= room:
        return plan
    fitting = next((smaller for smaller in _smaller(plan, calibrations) if smaller.more_bytes <= room), None)
    least = plan.windows.window if smallest is None else smallest
    wanted = f"needs {plan.bytes / 1e9:.1f} GB ({plan.line().split(',')[0]}), found {(plan.held + room) / 1e9:.1f} GB"
    if fitting is None:
        raise InputError(scan, wanted, "more memory is wanted; no smaller window would fit", "memory")
    window = fitting.windows.window
    if any(found < min(low, usual) for found, low, usual in zip(window, least, plan.windows.window, strict=True)):
        shape = " x ".join(map(str, window))
        would = f"windows of {shape} would fit in {fitting.bytes / 1e9:.1f} GB (smallest_window allows them)"
        raise InputError(scan, wanted, would, "memory")
    return fitting


def _smaller(plan: Plan, calibrations: Calibrations) -> Iterator[Plan]:
    """Yield the plan with smaller and smaller windows, the longest side of which shrinks first."""
    window = list(plan.windows.window)
    while max(window) > STEP:
        axis = window.index(max(window))
        window[axis] = min(window[axis] - 1, max(STEP, ceil(window[axis] * SHRINK / STEP) * STEP))
        if window[axis] % STEP:
            window[axis] = max(STEP, window[axis] // STEP * STEP)
        windows = replace(plan.windows, window=tuple(window))
        yield replace(plan, windows=windows, calibration=calibrations.find(window, windows.batch))
