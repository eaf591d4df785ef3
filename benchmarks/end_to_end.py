"""Whole runs from the shell, one window and a batch: this bundle beside MONAI's stock parts, one after the other.

``python -m benchmarks.end_to_end [--image FILE] [--rounds N] [--batch N] [--only PART ...] [--json FILE]``. Every run
is a process of its own, whose seconds, CPU seconds and largest resident memory the system tells; a round runs each
variant once, in an order that is drawn. Prints medians, the CPU seconds that the machine spent elsewhere
meanwhile (few, or the seconds say little), what stock takes times each, and the bars. Without ``--image`` the MNI152 T1
at 1 mm is segmented.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.child import Child, median_child, run_child
from benchmarks.engine_rows import BFLOAT16, EAGER, EAGER_BFLOAT16, FLOAT32, ROWS, UNETR_B, measure_row
from benchmarks.measure import (
    describe_machine,
    in_own_process,
    make_parser,
    positive,
    run_rounds,
    sample_scan,
    verdict,
    write_json,
)

STOCK, IN_TURN, DEFAULT = "stock", "one after another", "scripts.segment"
FAST = f"{DEFAULT}, bfloat16"
OPENVINO = {
    "openvino": ("--engine", "openvino"),
    "openvino, bfloat16": ("--engine", "openvino", "--precision", "bfloat16"),
}
OPTIONS = {DEFAULT: (), FAST: ("--precision", "bfloat16"), **OPENVINO}
"""What each variant adds to the command line of ``scripts.segment``."""
PARTS = ("process", "window", "batch")
WINDOW = 96
PROCESS_BAR, MEMORY_BAR, UNETR_BAR, EAGER_BAR, BATCH_BAR, BATCH_MEMORY_BAR = 4.0, 3.0, 8.0, 3.0, 6.0, 1.1
Figures = dict[str, dict[str, Any]]


def segment_scans(variant: str, scans: Sequence[str]) -> Child:
    """Segment scans in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        if variant in OPTIONS:
            options = ("--output-dir", folder, "--device", "cpu", *OPTIONS[variant])
            command = ["scripts.segment", *scans, *options]
        else:
            command = ["benchmarks.loops", "stock" if variant == STOCK else "in_turn", folder, *scans]
        return run_child([sys.executable, "-m", *command], ".nii.gz")


def measure_runs(variants: Sequence[str], scans: Sequence[str], rounds: int) -> dict[str, Child]:
    """Return the median run of each variant."""
    runs = {name: partial(segment_scans, name, scans) for name in variants}
    return {name: median_child(children) for name, children in run_rounds(runs, rounds).items()}


def print_runs(found: dict[str, Child]) -> Figures:
    """Print a table of runs and return it."""
    stock = found[STOCK]
    print(
        f"{'':28}{'seconds':>9}{'a scan':>9}{'CPU s':>9}{'peak MiB':>10}{'elsewhere':>11}"
        f"{'stock: time':>13}{'a scan':>8}{'memory':>8}"
    )
    for name, child in found.items():
        ratios = (stock.seconds / child.seconds, stock.per_result / child.per_result, stock.peak_mib / child.peak_mib)
        print(f"{name:28}{child.seconds:9.2f}{child.per_result:9.2f}{child.cpu_seconds:9.2f}{child.peak_mib:10.0f}{child.elsewhere:11.1f}"
              f"{ratios[0]:11.2f} x{ratios[1]:6.2f} x{ratios[2]:6.2f} x", flush=True)  # fmt: skip
    return {name: child.record() for name, child in found.items()}


def compare_processes(image: str, rounds: int) -> Figures:
    """Print whole processes of one scan."""
    from bundle.engines.choose import is_installed

    variants = [DEFAULT, FAST, *(OPENVINO if is_installed("openvino") else ()), STOCK]
    print("\none scan, the whole process")
    found = measure_runs(variants, [image], rounds)
    table = print_runs(found)
    stock, default = found[STOCK], found[DEFAULT]
    print(verdict("stock / default, whole process", stock.seconds / default.seconds, PROCESS_BAR, " x"))
    print(verdict("stock / default, memory", stock.peak_mib / default.peak_mib, MEMORY_BAR, " x"))
    return table


def compare_windows() -> Figures:
    """Print one window of 96^3 in both number formats, in eager PyTorch as it comes, and in MONAI's UNETR-B."""
    from bundle.machine import use_bfloat16

    fast = BFLOAT16 if use_bfloat16("auto", "cpu") else FLOAT32
    rows = dict.fromkeys((fast, FLOAT32, EAGER, EAGER_BFLOAT16, UNETR_B))
    print(f"\none window of {WINDOW}^3")
    with tempfile.TemporaryDirectory() as cache_dir:
        results = {row: in_own_process(measure_row, ROWS.index(row), WINDOW, 6.0, cache_dir) for row in rows}
    for row, result in results.items():
        print(f"{row.label:50}{result.get('seconds', math.nan):9.3f} s  {result.get('error', '')}")
    seconds = {row: result.get("seconds", math.nan) for row, result in results.items()}
    for name, peer, bar in (("MONAI UNETR-B", UNETR_B, UNETR_BAR), ("eager as it comes", EAGER, EAGER_BAR)):
        print(verdict(f"{name} / {fast.precision}", seconds[peer] / seconds[fast], bar, " x"))
        print(f"{name} / float32: {seconds[peer] / seconds[FLOAT32]:.2f} x")
    print(f"eager bfloat16 / {fast.precision}: {seconds[EAGER_BFLOAT16] / seconds[fast]:.2f} x")
    return {row.label: result for row, result in results.items()}


def compare_batches(image: str, count: int, rounds: int) -> Figures:
    """Print a batch in one process: seconds from result to result, and memory beside that of one scan."""
    print(f"\na batch of {count} scans; seconds of a scan are those from result to result, the last left out")
    with tempfile.TemporaryDirectory() as folder:
        scans = [str(Path(folder) / f"scan{number}.nii.gz") for number in range(count)]
        for scan in scans:
            shutil.copy(image, scan)
        found = measure_runs([DEFAULT, IN_TURN, STOCK], scans, rounds)
        single = median_child(run_rounds({DEFAULT: partial(segment_scans, DEFAULT, scans[:1])}, rounds)[DEFAULT])
    table = print_runs(found)
    default = found[DEFAULT]
    print(verdict("stock / default, a scan", found[STOCK].per_result / default.per_result, BATCH_BAR, " x"))
    print(f"one after another / default, a scan: {found[IN_TURN].per_result / default.per_result:.2f} x")
    share = default.peak_mib / single.peak_mib
    print(verdict("memory of the batch / of one scan", share, BATCH_MEMORY_BAR, " x", at_most=True))
    return {**table, "one scan": single.record()}


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--image")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--batch", type=positive, default=8, help="scans of a batch")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure (default: all)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


def main() -> None:
    """Measure the parts and print their tables and bars."""
    options = parse_arguments()
    print(machine := describe_machine(), flush=True)
    found: dict[str, Any] = {"machine": machine}
    with sample_scan(options.image) as image:
        if "process" in options.only:
            found["process"] = compare_processes(image, options.rounds)
        if "window" in options.only:
            found["window"] = compare_windows()
        if "batch" in options.only:
            found["batch"] = compare_batches(image, options.batch, options.rounds)
    if options.json:
        write_json(found, options.json)


if __name__ == "__main__":
    main()
