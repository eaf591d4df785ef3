"""A process that a benchmark runs to its end: its seconds, its memory, and when its results came."""

from __future__ import annotations

import math
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Child:
    """What a process took: seconds, its own and those of its CPUs, and its largest resident memory.

    Attributes:
        results: seconds from its start to each line of a result.
        elsewhere: CPU seconds that the machine spent on other things meanwhile; NaN where it does not say.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    results: tuple[float, ...]
    elsewhere: float

    @property
    def per_result(self) -> float:
        """Seconds from one result to the next; of one or two, from the start.

        A pipeline tells of a result once the next scan is through the network: its last result, which waits for none,
        is left out.
        """
        if len(self.results) < 3:
            return self.results[-1] / len(self.results)
        return (self.results[-2] - self.results[0]) / (len(self.results) - 2)

    def record(self) -> dict[str, Any]:
        """Return what the JSON holds of it."""
        return {**asdict(self), "per_result": self.per_result}


def run_child(command: Sequence[str], result: str, environment: Mapping[str, str] | None = None) -> Child:
    """Run a program to its end.

    Args:
        command: the program and its arguments.
        result: is in each line of a result on its stdout, and in no other.
        environment: what is set beside this process's own.

    Raises:
        SystemExit: when it fails or has no result.
    """
    variables = os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment or {})
    started, busy = time.perf_counter(), _busy_seconds()
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        warned: list[str] = []
        reader = threading.Thread(target=lambda errors: warned.extend(errors), args=(process.stderr,))
        reader.start()
        lines = tuple(time.perf_counter() - started for line in process.stdout if result in line)
        reader.join()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds, busy = time.perf_counter() - started, _busy_seconds() - busy
    if process.returncode or not lines:
        said = "".join(warned[-3:])
        raise SystemExit(f"error: {' '.join(command)}: {len(lines)} results, exit code {process.returncode}\n{said}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Child(seconds, cpu_seconds, usage.ru_maxrss / 1024, lines, busy - cpu_seconds)


def median_child(children: Sequence[Child]) -> Child:
    """Return the run of median seconds, with the median of each other figure."""
    middle = sorted(children, key=lambda child: child.seconds)[(len(children) - 1) // 2]
    names = ("cpu_seconds", "peak_mib", "elsewhere")
    return replace(middle, **{name: median(getattr(child, name) for child in children) for name in names})


def _busy_seconds() -> float:
    """Return the seconds that all CPUs of the machine were busy so far, by /proc/stat; NaN where there is none."""
    if not (stat := Path("/proc/stat")).is_file():
        return math.nan
    fields = [int(field) for field in stat.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")  # but for idle and waiting for disks
