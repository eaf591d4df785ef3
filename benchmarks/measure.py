"""What every benchmark needs: a command line, a scan, times, memory, a process of its own, the machine, and bars.

Nothing heavy is imported with it, so that ``python -m benchmarks.NAME --help`` is there at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from bundle.errors import InputError, show_errors_in_one_line

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the bundle."""
CHECKPOINT = ROOT / "models" / "model.pt"
"""The brain weights that ship."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class OwnProcessError(ChildProcessError):
    """A function whose own process failed or was killed; what it had to say is on stderr."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name}: its process ended with code {code}")
        self.code = code


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of the program that runs; from now on what a user can mend is one line, and exit code 1.

    Args:
        doc: the program's docstring, whose first paragraph becomes the description.
    """
    show_errors_in_one_line()
    return argparse.ArgumentParser(prog=f"python -m {_program()}", description=(doc or "").split("\n\n")[0])


def positive(text: str) -> int:
    """Read a count from the command line; the ``type`` of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, a whole number from 1 on is wanted")
    return int(text)


def silence() -> None:
    """Show neither warnings nor logs up to warnings: the tables are the output."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


@contextmanager
def sample_scan(image: str | None) -> Iterator[str]:
    """Give the path of a scan: ``image``, or for as long as the block lasts nilearn's MNI152 T1 at 1 mm.

    Raises:
        InputError: when there is no such file.
    """
    if image is not None:
        if not Path(image).is_file():
            raise InputError(image, "no such file", "a NIfTI file is wanted")
        yield image
        return

    from scripts.sample_volume import write_sample_volume

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mni152_t1.nii.gz"
        write_sample_volume(path)
        yield str(path)


def write_json(record: Any, path: str | Path) -> None:
    """Write a benchmark's figures."""
    Path(path).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def timed(run: Callable[[], Value]) -> tuple[float, Value]:
    """Return the seconds of one call, and its result."""
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def seconds_of(run: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    return timed(run)[0]


def time_rounds(runs: Mapping[Key, Callable[[], object]], rounds: int, seconds: float = 0.0) -> dict[Key, list[float]]:
    """Return the seconds of every form in every round; a round runs each form once.

    Args:
        runs: what is compared.
        rounds: at least so many.
        seconds: and for so long.
    """
    shuffle = random.Random(0).shuffle  # so that no form always follows the same one, with the caches it leaves
    order = list(runs)
    times: dict[Key, list[float]] = {form: [] for form in order}
    started = time.perf_counter()
    while len(times[order[0]]) < rounds or time.perf_counter() - started < seconds:
        shuffle(order)
        for form in order:
            times[form].append(seconds_of(runs[form]))
    return {form: times[form] for form in runs}


def run_rounds(runs: Mapping[Key, Callable[[], Value]], rounds: int) -> dict[Key, list[Value]]:
    """Return what each form gave in every round; a round runs each form once, in an order that is drawn."""
    shuffle = random.Random(0).shuffle
    order = list(runs)
    found: dict[Key, list[Value]] = {form: [] for form in order}
    for number in range(rounds):
        shuffle(order)
        for form in order:
            print(f"{form}, {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
            found[form].append(runs[form]())
    return found


def available_gib() -> float:
    """Return the memory that programs can still have, by /proc/meminfo."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 2**20


def resident_peak_mib() -> float:
    """Return the largest memory this process ever held, or its parent when it was started."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_mib(small: Callable[[], object], run: Callable[[], object]) -> float:
    """Return the memory that a first run needs; what libraries keep for good is had by a small one before it."""
    small()
    baseline = resident_peak_mib()
    run()
    return resident_peak_mib() - baseline


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a new process; a peak of memory is then its own.

    Args:
        function: of a module's top level.
        arguments: as JSON has them; likewise what is returned.

    Raises:
        OwnProcessError: when it fails or is killed.
    """
    module = _program() if function.__module__ == "__main__" else function.__module__
    command = [sys.executable, "-m", "benchmarks.measure", module, function.__name__, json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise OwnProcessError(f"{module}.{function.__name__}", done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def describe_machine() -> str:
    """Return the processor, its vector extensions, the threads used, and how busy the machine is already."""
    import torch

    from bundle.machine import use_bfloat16

    name = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    bfloat16 = "bfloat16" if use_bfloat16("auto", "cpu") else "no bfloat16"
    return (f"{name}, {torch.backends.cpu.get_cpu_capability()}, {bfloat16}, {torch.get_num_threads()} threads, "
            f"torch {torch.__version__}, {available_gib():.1f} GiB free, load {os.getloadavg()[0]:.1f}")  # fmt: skip


def met_or_missed(met: bool) -> str:
    """Return the word behind a bar."""
    return "met" if met else "MISSED"


def verdict(name: str, value: float, bar: float, unit: str = "", at_most: bool = False) -> str:
    """Return one line that says whether a figure meets its bar; NaN was not measured."""
    if math.isnan(value):
        return f"{name}: not measured"
    met = value <= bar if at_most else value >= bar
    return f"{name}: {value:.2f}{unit}, bar {'<=' if at_most else '>='} {bar:g}{unit} {met_or_missed(met)}"


def _program() -> str:
    """Return the module that ``python -m`` runs."""
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else Path(sys.argv[0]).stem


def _answer(module: str, name: str, arguments: str) -> None:
    """Call a function for ``in_own_process``; its result is the last line."""
    show_errors_in_one_line()
    print(json.dumps(getattr(import_module(module), name)(*json.loads(arguments))))


if __name__ == "__main__":
    _answer(*sys.argv[1:])
