"""What a window of a network takes here, in seconds and memory: measured on the first one, kept in the cache.

Times and memory follow from a network's structure, the number format, the cores and the window, and not from its
weights: networks of one structure share what was measured.
"""

from __future__ import annotations

import contextlib
import json
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.engines.cache import cache_folder
from bundle.io.whole import whole_file
from bundle.machine import available_cores

FILE = "calibration.json"
ALIKE = 0.15
"""Share by which two measurements may differ and say the same: heads differ in size, machines in what else they do."""
MOST = 16
"""Windows that are remembered of a network."""
LOOK_SECONDS = 0.005
"""Between two looks at the memory, where the peak of the process lies before the first window."""


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        window: shape of a window.
        batch: windows at a time.
        bytes: most memory that a call of the network held, its logits included.
        seconds: of the network for a window.
        rest: seconds of all else of the stage for a million voxels of the scan.
    """

    window: tuple[int, ...]
    batch: int
    bytes: int
    seconds: float
    rest: float = 0.0

    def scaled(self, window: Sequence[int], batch: int) -> Calibration:
        """Return what is to be expected of another window, by its number of voxels."""
        share = prod(window) / prod(self.window)
        size = round(self.bytes * share * batch / self.batch)
        return Calibration(tuple(window), batch, size, self.seconds * share, self.rest)

    def foretold(self, other: Calibration) -> bool:
        """Tell whether another measurement of the same window is much the same."""
        pairs = ((self.bytes, other.bytes), (self.seconds, other.seconds))
        return all(abs(one - two) <= ALIKE * max(one, two) for one, two in pairs)


class Calibrations:
    """What is known of a network here.

    Args:
        network: the network.
        device: where it computes.
        cache_dir: folder of the cache; the user's by default.
        kind: what else tells networks apart.
    """

    def __init__(self, network: Any, device: torch.device, cache_dir: str | Path | None = None, kind: str = "") -> None:
        self.file = cache_folder(cache_dir) / FILE
        self.key = f"{_key(network, device)} {kind}".strip()

    def find(self, window: Sequence[int], batch: int) -> Calibration | None:
        """Return what is known of a window, or what follows from the one that is nearest in size."""
        known = [Calibration(**{**entry, "window": tuple(entry["window"])}) for entry in self._read().get(self.key, [])]
        if not known:
            return None
        nearest = min(known, key=lambda entry: (abs(prod(entry.window) - prod(window)), entry.batch != batch))
        return nearest if (nearest.window, nearest.batch) == (tuple(window), batch) else nearest.scaled(window, batch)

    def keep(self, found: Calibration) -> None:
        """Keep what was measured, unless it was to be expected; a cache that is not writable is none."""
        known = self.find(found.window, found.batch)
        if known is not None and known.foretold(found):
            return
        content = self._read()
        others = [
            entry
            for entry in content.get(self.key, [])
            if (tuple(entry["window"]), entry["batch"]) != (found.window, found.batch)
        ]
        content[self.key] = [*others, asdict(found)][-MOST:]
        with contextlib.suppress(OSError), whole_file(self.file, overwrite=True) as unfinished:
            unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(self.file.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                return content
        return {}


class Tried(Calibrations):
    """What is known of a network of which nothing was, after a small window."""

    def __init__(self, calibrations: Calibrations, tried: Calibration) -> None:
        self.file, self.key = calibrations.file, calibrations.key
        self.tried = tried

    def find(self, window: Sequence[int], batch: int) -> Calibration | None:
        """Return what follows from the window that was tried."""
        return self.tried.scaled(window, batch)


def _key(network: Any, device: torch.device) -> str:
    sizes = [tuple(value.shape) for value in network.parameters()] if isinstance(network, nn.Module) else []
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    parts = (type(network).__name__, len(sizes), sum(map(prod, sizes)), getattr(network, "engine", ""))
    here = (getattr(network, "precision", ""), available_cores(), name, torch.__version__)
    return " ".join(str(part) for part in (*parts, *here))


class Watch:
    """A network whose calls are timed, and the first of which has its memory measured.

    Args:
        network: maps windows to logits.
    """

    def __init__(self, network: Callable[..., Any]) -> None:
        self.network = network
        self.seconds = 0.0
        self.windows = 0
        self.bytes: int | None = None

    def __call__(self, windows: Tensor) -> Any:
        """Map windows (B, C, X, Y, Z) to logits."""
        started = time.perf_counter()
        if self.windows:
            logits = self.network(windows)
        else:
            with memory_growth(windows.device) as growth:
                logits = self.network(windows)
            self.bytes = growth[0] if growth else None
        if windows.device.type == "cuda":
            torch.cuda.synchronize(windows.device)
        self.seconds += time.perf_counter() - started
        self.windows += len(windows)
        return logits


PROBE = (64, 64, 64)
"""Voxels of a window that is tried where memory is scarce and nothing is known: a fifth of a second on two cores."""
SMALL = (16, 16, 16)


def probe(network: Callable[..., Any], image: Tensor, window: Sequence[int]) -> Calibration | None:
    """Measure a small window of an image (1, C, X, Y, Z); ``None`` where the network takes none."""
    sizes = [tuple(map(min, size, window)) for size in (SMALL, PROBE)]
    parts = [image[..., :x, :y, :z] for x, y, z in sizes]
    with torch.inference_mode(), contextlib.suppress(RuntimeError, ValueError):
        network(parts[0])  # what libraries load
        watch = Watch(network)
        watch(parts[1])
        return None if watch.bytes is None else Calibration(sizes[1], 1, watch.bytes, watch.seconds)
    return None


@contextlib.contextmanager
def memory_growth(device: torch.device) -> Iterator[list[int]]:
    """Give a list that holds, at the end, by how many bytes memory grew at most; empty where that is not known."""
    growth: list[int] = []
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield growth
        growth.append(torch.cuda.max_memory_allocated(device) - before)
        return
    try:
        before, highest = resident(), resident("VmHWM")
    except OSError:
        yield growth
        return
    seen, over = [before], threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            seen.append(resident())

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield growth
    finally:
        over.set()
        looking.join()
    peak = resident("VmHWM")
    growth.append((peak if peak > highest else max(seen)) - before)


def held_memory() -> int:
    """Return the bytes that this process holds, 0 where the system does not say."""
    try:
        return resident()
    except OSError:
        return 0


def resident(field: str = "VmRSS") -> int:
    """Return the bytes that this process holds, or another field of its status.

    Raises:
        OSError: where the system does not say.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field}")
