"""Cohorts: ``python -m benchmarks.cohort [--rows small real tasks kills] [--scans N] [--heads N] [--tasks N ...]``.

- ``small``: N phantoms of 24 mm, one of them bad, on two workers of scripts.cohort: what a scan costs beyond the bare
  pipeline (two processes that call ``Segmenter.segment``, scan after scan), and whether the parent's memory grows.
- ``real``: N copies of a head on two workers of one thread, on one worker of two threads, and in a shell loop of
  scripts.segment.
- ``tasks``: calls that do nothing: memory of Dask's scheduler when all are handed over at once, and when each worker
  has one, as scripts.cohort does it; time of each, and size of the table.
- ``kills``: 24 phantoms; workers of a run killed five times, and the parent of ten runs, at random times: whether the
  results are those of a run that nothing disturbed.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Image

from benchmarks.kills import Kills
from benchmarks.measure import (
    describe_machine,
    in_own_process,
    make_parser,
    positive,
    sample_scan,
    seconds_of,
    silence,
    verdict,
)
from bundle.cohort.messages import DONE, Case, Readiness, Result, Settings
from bundle.labels import read_labels

ROWS = ("small", "real", "tasks", "kills")
SHAPE = (24, 24, 24)
KILL_SCANS, WORKER_KILLS, PARENT_KILLS = 24, 5, 10
OVERHEAD_BAR, GROWTH_BAR, LOOP_BAR, WORKER_BAR = 50.0, 10.0, 1.5, 1.0
COHORT, SEGMENT = ([sys.executable, "-m", f"scripts.{name}"] for name in ("cohort", "segment"))
OPTIONS = ["--device", "cpu", "--precision", "float32"]


def write_phantoms(folder: Path, count: int) -> None:
    """Write balls in noise, voxels of 1 mm; the last file is cut in half."""
    folder.mkdir(parents=True)
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    paths = [folder / f"phantom{number:04d}.nii.gz" for number in range(count)]
    for number, path in enumerate(paths):
        rng = np.random.default_rng(number)
        radius = np.linalg.norm(index - np.array(SHAPE) / 2 - rng.uniform(-2, 2, 3), axis=-1)
        image = np.select([radius < 5, radius < 9], [100.0, 60.0], 10.0) + rng.normal(0, 3, SHAPE)
        Nifti1Image(image.astype(np.float32), np.eye(4)).to_filename(path)
    content = paths[-1].read_bytes()
    paths[-1].write_bytes(content[: len(content) // 2])


def bare(folder: str, half: int) -> float:
    """Return the seconds that a process takes to segment half of the scans, the bad one left out, its model loaded."""
    import torch

    from bundle.inference.segmenter import Segmenter

    silence()
    torch.set_num_threads(1)
    paths = sorted((Path(folder) / "scans").iterdir())[:-1][half::2]
    segmenter = Segmenter(device=torch.device("cpu"), precision="float32", output_dir=f"{folder}/bare")
    return seconds_of(lambda: [segmenter.segment(path) for path in paths])


def compare_small(count: int) -> None:
    """Print the row ``small``."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_phantoms(folder / "scans", count)
        with ThreadPoolExecutor() as pool:
            alone = max(pool.map(partial(in_own_process, bare, str(folder)), range(2)))
        command = [*COHORT, str(folder / "scans"), "--output-dir", str(folder / "out"), "--workers", "2", *OPTIONS]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        memory = watch_memory(process, folder / "out/cohort.tsv")
        out, err = process.communicate()
        print(f"small: {out.splitlines()[-1]}; exit code {process.returncode}; {err.strip().splitlines()[-1:]}")
        spent = seconds_in_log(next((folder / "out/logs").glob("*.log")))
        print(f"bare {alone:.1f} s, cohort {spent:.1f} s for {count} scans on two processes of one thread")
        print(verdict("overhead of a scan", 1000 * (spent - alone) * 2 / count, OVERHEAD_BAR, " ms", at_most=True))
        first = memory.get(min(100, count // 2))
        if first and memory:
            last = memory[max(memory)]
            print(f"parent {first:.0f} MiB after {min(100, count // 2)} scans, {last:.0f} MiB after {max(memory)}")
            print(verdict("growth of the parent", 100 * (last / first - 1), GROWTH_BAR, " %", at_most=True))


def watch_memory(process: subprocess.Popen[str], table: Path) -> dict[int, float]:
    """Return the MiB that a process held when the table had a number of lines, for numbers that were seen or passed."""
    found: dict[int, float] = {}
    while process.poll() is None:
        time.sleep(0.2)
        try:
            lines = table.read_bytes().count(b"\n") - 1
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        except OSError:
            continue
        if held := re.search(r"VmRSS:\s+(\d+)", status):
            for number in range(max(found, default=0) + 1, lines + 1):
                found[number] = int(held[1]) / 1024
    return found


def seconds_in_log(log: Path) -> float:
    """Return the seconds from the first worker's readiness to the end of the last scan."""
    lines = log.read_text(encoding="utf-8").splitlines()
    times = [
        datetime.fromisoformat(next(line for line in lines if words in line).split()[0])
        for words in (" engine ", "all scans have ended")
    ]
    return (times[1] - times[0]).total_seconds()


def compare_real(image: str, count: int) -> None:
    """Print the row ``real``."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scans").mkdir()
        paths = [folder / "scans" / f"head{number:02d}.nii.gz" for number in range(count)]
        for path in paths:
            shutil.copy(image, path)

        def cohort(workers: int, threads: int) -> float:
            where = ["--output-dir", folder / f"out{workers}", "--workers", workers, "--threads", threads]
            command = [*COHORT, folder / "scans", *where, *OPTIONS]
            return seconds_of(lambda: subprocess.run(list(map(str, command)), check=True))

        def loop() -> float:
            where = ["--output-dir", str(folder / "loop"), *OPTIONS]
            return seconds_of(lambda: [subprocess.run([*SEGMENT, str(path), *where], check=True) for path in paths])

        two, one, shell = cohort(2, 1), cohort(1, 2), loop()
    for label, seconds in (
        ("two workers of one thread", two),
        ("one worker of two threads", one),
        ("shell loop", shell),
    ):
        print(f"real: {label}: {seconds:.1f} s, {seconds / count:.1f} s a head")
    print(verdict("against the shell loop", shell / two, LOOP_BAR, "x"))
    print(verdict("against one worker", one / two, WORKER_BAR, "x"))


def nothing(case: Case, settings: Settings) -> Result:
    """Stand in for the segmentation of a scan."""
    return Result(DONE)


def no_model(settings: Settings) -> Readiness:
    """Stand in for the loading of a model."""
    return Readiness("here", 0, "none", {}, tuple(read_labels()))


def resident_mib() -> float:
    """Return the memory that this process holds."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def two_workers() -> Iterator[Any]:
    """Start a cluster whose scheduler is in this process."""
    from bundle.cohort.clusters import local_workers
    from bundle.cohort.plan import WorkerPlan

    with local_workers(WorkerPlan(2, 1, None)) as client:
        yield client


def all_at_once(count: int) -> tuple[float, float]:
    """Return MiB that the scheduler gains, and milliseconds a call, when it is handed all calls at once."""
    with two_workers() as client:
        client.gather(client.map(str, range(10)))
        before, started = resident_mib(), time.perf_counter()
        futures = client.map(str, range(count), pure=False)
        gained = resident_mib() - before
        client.gather(futures)
        return gained, (time.perf_counter() - started) / count * 1000


def one_each(count: int) -> tuple[float, float]:
    """Return the same when each worker has one call, as in scripts.cohort."""
    from bundle.cohort.dispatch import OnDask

    with two_workers() as client:
        runner = OnDask(client, Settings((), (), "."), calls=(no_model, nothing))
        runner.ready()
        cases = (Case(f"sub-{number:07d}_T1w", f"/data/sub-{number:07d}_T1w.nii.gz") for number in range(count))
        before, started, most = resident_mib(), time.perf_counter(), 0.0
        for _ in runner.run(cases):
            most = max(most, resident_mib())
        return most - before, (time.perf_counter() - started) / count * 1000


def table_bytes() -> int:
    """Return the length of a line of the table of the shipped model, header left out, numbers as they are at most."""
    from bundle.cohort.session import pairs_of
    from bundle.cohort.table import FIXED, measures_of

    names = [label.name for label in read_labels()[1:]]
    numbers = measures_of(names, pairs_of(names))
    return len("\t".join([*(["sub-0000001_ses-a_T1w"] * len(FIXED)), *(["123456.789"] * len(numbers))])) + 1


def compare_tasks(counts: list[int]) -> None:
    """Print the row ``tasks``."""
    print("| calls | scheduler, all at once | ms a call | scheduler and parent, one each | ms a call | table |")
    print("|---|---|---|---|---|---|")
    for count in counts:
        (held, pace), (bound, own) = in_own_process(all_at_once, count), in_own_process(one_each, count)
        size = count * table_bytes() / 1e6
        print(f"| {count} | {held:.0f} MiB | {pace:.2f} | {bound:.0f} MiB | {own:.2f} | {size:.1f} MB |", flush=True)


def compare_kills(seed: int) -> None:
    """Print the row ``kills``."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_phantoms(folder / "scans", KILL_SCANS)
        kills = Kills([*COHORT, str(folder / "scans"), "--workers", "2", *OPTIONS], folder, seed)
        print(f"kills: seed {seed}; {kills.seconds:.1f} s undisturbed", flush=True)
        print(kills.kill_workers(WORKER_KILLS), flush=True)
        print(kills.kill_parent(PARENT_KILLS), flush=True)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="what is measured")
    parser.add_argument("--scans", type=positive, default=1000, help="phantoms of the row small")
    parser.add_argument("--heads", type=positive, default=12, help="copies of the row real")
    parser.add_argument(
        "--tasks", type=positive, nargs="+", default=[10**3, 10**4, 10**5], help="calls of the row tasks"
    )
    parser.add_argument("--seed", type=int, help="when the row kills kills (default: drawn, and printed)")
    parser.add_argument("--image", metavar="FILE", help="head of the row real (default: the MNI152 T1)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    options = parse_arguments(arguments)
    print(describe_machine())
    if "small" in options.rows:
        compare_small(options.scans)
    if "real" in options.rows:
        with sample_scan(options.image) as image:
            compare_real(image, options.heads)
    if "tasks" in options.rows:
        compare_tasks(options.tasks)
    if "kills" in options.rows:
        compare_kills(random.SystemRandom().randrange(10**6) if options.seed is None else options.seed)


if __name__ == "__main__":
    main()
