"""Processes of a cohort that are killed, at random times: what is left is whole, and the same command goes on.

The row ``kills`` of ``benchmarks.cohort``: the results of a disturbed run are compared with those of one that nothing
disturbed, byte for byte but for the times and the threads in records and tables.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from bundle.cohort.resume import read_record
from bundle.provenance import sha256

CHANGING = ("seconds", "peak_memory_mb", "worker", "attempts", "status", "reason")
"""Columns of the table that tell how a run went."""
WAIT = 1800.0
"""Seconds after which a run that does not end is given up."""


class Kills:
    """Runs of one cohort into folders of their own.

    Args:
        command: program and arguments, but for the output folder.
        folder: where the results go.
        seed: of what is drawn.
    """

    def __init__(self, command: Sequence[str], folder: Path, seed: int) -> None:
        self.command = command
        self.folder = folder
        self.draw = random.Random(seed)
        started = time.perf_counter()
        self.code = self._start("whole").wait(WAIT)
        self.seconds = time.perf_counter() - started
        self.wanted = results(folder / "whole")

    def kill_workers(self, times: int) -> str:
        """Kill workers of one run and return what came of it."""
        process, out = self._start("workers", "--retries", str(times)), self.folder / "workers"
        killed = 0
        while killed < times and process.poll() is None:
            self._wait_for_more(process, out)
            time.sleep(self.draw.uniform(0, 0.5))
            if workers := workers_of(process.pid):
                end(self.draw.choice(workers))
                killed += 1
        return self._verdict(f"{killed} workers killed", out, process.wait(WAIT))

    def kill_parent(self, times: int) -> str:
        """Kill run after run, look at what each leaves, let the last one end, and return what came of it."""
        out, torn = self.folder / "parent", 0
        for number in range(times):
            process = self._start("parent")
            if number % 2:  # at any time; else while it segments
                time.sleep(self.draw.uniform(0, self.seconds))
            else:
                self._wait_for_more(process, out)
                time.sleep(self.draw.uniform(0, 0.5))
            workers = workers_of(process.pid)
            end(process.pid)
            process.wait(WAIT)
            wait_for(partial(none_runs, workers))
            torn += len(torn_files(out))
        code = self._start("parent").wait(WAIT)
        return self._verdict(f"parent killed {times} times, {torn} files torn", out, code)

    def _start(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        command = [*self.command, "--output-dir", str(self.folder / name), *more]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _wait_for_more(self, process: subprocess.Popen[bytes], out: Path) -> None:
        done = count(out)
        wait_for(lambda: process.poll() is not None or count(out) > done)

    def _verdict(self, what: str, out: Path, code: int) -> str:
        found = results(out)
        names = found.keys() | self.wanted.keys()
        differing = sorted(name for name in names if found.get(name) != self.wanted.get(name))
        same = f"DIFFERENT: {differing[:5]}" if differing else f"{len(found)} files as in a run that nothing disturbed"
        return f"kills: {what}; exit code {code}, undisturbed {self.code}; {same}"


def results(folder: Path) -> dict[str, Any]:
    """Return what a run left: files by name, records and tables without what tells how the run went."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or name.parts[0] in ("logs", ".cohort") or path.name == "cohort_summary.json":
            continue
        if path.name.endswith("_record.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            del record["run"], record["computation"]["threads"]
            found[str(name)] = record
        elif path.name == "cohort.tsv":
            with open(path, encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file, delimiter="\t"))
            found[str(name)] = [{key: row[key] for key in row if key not in CHANGING} for row in rows]
        else:
            found[str(name)] = sha256(path)
    return found


def torn_files(folder: Path) -> list[Path]:
    """Return the outputs that a record names and that are not there, or not what it says."""
    found = []
    for path in folder.glob("*/*_record.json"):
        record = read_record(path)
        outputs = record["outputs"] if record else {path.name: ""}
        for name, digest in outputs.items():
            output = path.with_name(name)
            if not output.is_file() or sha256(output) != digest:
                found.append(output)
    return found


def count(folder: Path) -> int:
    """Return how many records there are."""
    return sum(1 for _ in folder.glob("*/*_record.json"))


def workers_of(parent: int) -> list[int]:
    """Return Dask's workers among the children of a process."""
    import psutil

    try:
        children = psutil.Process(parent).children()
        return [child.pid for child in children if any("spawn_main" in word for word in child.cmdline())]
    except psutil.Error:
        return []


def none_runs(pids: Sequence[int]) -> bool:
    """Tell whether all processes have ended."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def end(pid: int) -> None:
    """Kill a process, unless it has ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something holds.

    Raises:
        SystemExit: when it does not come to that.
    """
    last = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > last:
            raise SystemExit("error: a run of a cohort does not go on")
        time.sleep(0.02)
