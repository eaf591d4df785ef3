"""How many workers a machine can have, and how many threads each gets."""

from __future__ import annotations

from dataclasses import dataclass

PEAK_BYTES = int(2.5 * 2**30)
"""Of a process that segments a head: 2.1 GiB for the MNI152 at 1 mm in float32 (README.md), a fifth more for others."""


@dataclass(frozen=True)
class WorkerPlan:
    """Workers of one machine.

    Attributes:
        workers: processes; 0 for this one alone.
        threads: of each.
        memory: bytes that each may hold before it is ended, ``None`` where the system does not say what there is.
    """

    workers: int
    threads: int
    memory: int | None


def plan_workers(cores: int, memory: int | None, wanted: int | None = None, threads: int | None = None) -> WorkerPlan:
    """Return the workers that fit: one a core where the memory is there for it.

    Args:
        cores: that this process may use.
        memory: bytes that it may still allocate, ``None`` where the system does not say.
        wanted: this many workers, whatever the memory.
        threads: this many threads each, whatever the cores.
    """
    fitting = cores if memory is None else min(cores, memory // PEAK_BYTES)
    workers = max(1, fitting) if wanted is None else wanted
    share = None if memory is None else memory // max(1, workers)
    return WorkerPlan(workers, threads or max(1, cores // max(1, workers)), share)
