"""The network that ships in every engine that runs here, beside MONAI's UNETR-B and SwinUNETR-48 in eager PyTorch.

``python -m benchmarks.engines [--sizes N ...] [--seconds S] [--engines NAME ...] [--emulated] [--json FILE]``. Each row
is one cubic float32 window on the CPU, measured in a process of its own. Prints median seconds, the ratios to our eager
float32 and to UNETR-B, the operations per second, their share of what a matrix product reaches here, and the bars.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.engine_rows import (
    BFLOAT16,
    EAGER,
    FLOAT32,
    NAMES,
    ROWS,
    UNETR_B,
    Result,
    Row,
    count_gflop,
    measure_row,
    peak_gflops,
)
from benchmarks.measure import (
    OwnProcessError,
    describe_machine,
    in_own_process,
    make_parser,
    positive,
    verdict,
    write_json,
)

SIZES = (96, 160)
EAGER_BAR, UNETR_BAR, PEAK_BAR = 3.0, 8.0, 0.35


@dataclass(frozen=True)
class Window:
    """What was found on one cubic window.

    Attributes:
        size: its edge in voxels.
        gflop: the 1e9 operations of our network on it.
        peaks: what a matrix product reaches, by precision.
        results: of every row.
    """

    size: int
    gflop: float
    peaks: dict[str, Result]
    results: dict[Row, Result]

    def record(self) -> dict[str, Any]:
        """Return what the JSON holds of it."""
        rows = [{**asdict(row), "default": row == FLOAT32, **result} for row, result in self.results.items()]
        return {"size": self.size, "gflop": self.gflop, "peaks": self.peaks, "rows": rows}


def measure_apart(row: Row, size: int, seconds: float, cache_dir: str) -> Result:
    """Measure in a process of its own."""
    print(f"{size}^3  {row.label} ...", file=sys.stderr, flush=True)
    try:
        result: Result = in_own_process(measure_row, ROWS.index(row), size, seconds, cache_dir)
    except OwnProcessError as error:
        return {"error": f"ended with code {error.code}" + (", out of memory?" if error.code < 0 else "")}
    return result


def derive(window: Window) -> None:
    """Add the ratios, operations per second and their share of the peak to the rows that have what they need."""
    results, peaks = window.results, window.peaks
    for row, result in results.items():
        if "seconds" not in result:
            continue
        for key, reference in (("eager_ratio", EAGER), ("unetr_ratio", UNETR_B)):
            if "seconds" in results.get(reference, {}):
                result[key] = results[reference]["seconds"] / result["seconds"]
        if row.is_ours:
            result["gflops"] = window.gflop / result["seconds"]
            # Emulated bfloat16 is held against float32, which is what the processor computes in.
            result["of_peak"] = result["gflops"] / peaks.get(row.precision, peaks["float32"])["gflops"]


def print_window(window: Window) -> None:
    """Print the table of one window."""
    products = (f"{name} {peak['gflops']:.0f} GFLOP/s (N = {peak['size']})" for name, peak in window.peaks.items())
    print(
        f"\nwindow {window.size}^3, {window.gflop:.1f} GFLOP in ours; peak of a matrix product: {', '.join(products)}"
    )
    print(f"{'':50}{'median s':>9}{'rounds':>7}{'eager / it':>11}{'UNETR-B / it':>13}{'GFLOP/s':>9}{'of peak':>9}")
    for row, result in window.results.items():
        label = f"{row.label}{' (default)' if row == FLOAT32 else ''}"
        if "error" in result:
            print(f"{label:50} {result['error']}")
            continue
        columns = (("eager_ratio", "11.2f"), ("unetr_ratio", "13.2f"), ("gflops", "9.1f"), ("of_peak", "9.2f"))
        figures = "".join(f"{result.get(key, math.nan):{form}}".replace("nan", "  -") for key, form in columns)
        print(f"{label:50}{result['seconds']:9.3f}{result['rounds']:7}{figures}")
    sys.stdout.flush()


def judge(window: Window, fast: Row) -> Iterator[str]:
    """Yield how the engine ``torch`` stands to the bars, and its figures in float32 beside them."""
    found, default = (window.results.get(row, {}) for row in (fast, FLOAT32))
    for name, key, bar in (
        (f"eager float32 / {fast.precision}", "eager_ratio", EAGER_BAR),
        (f"MONAI UNETR-B / {fast.precision}", "unetr_ratio", UNETR_BAR),
        (f"{fast.precision} / peak of a matrix product", "of_peak", PEAK_BAR),
    ):
        line = verdict(name, found.get(key, math.nan), bar)
        yield f"{window.size}^3  {line} (the default, float32: {default.get(key, math.nan):.2f})"


def measure_window(size: int, rows: list[Row], seconds: float, cache_dir: str) -> Window:
    """Measure all rows of one window and print their table."""
    from bundle.machine import use_bfloat16

    precisions = ("float32", "bfloat16") if use_bfloat16("auto", "cpu") else ("float32",)
    peaks: dict[str, Result] = {name: in_own_process(peak_gflops, name) for name in precisions}
    window = Window(size, count_gflop(size), peaks, {row: measure_apart(row, size, seconds, cache_dir) for row in rows})
    derive(window)
    print_window(window)
    return window


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--sizes", type=positive, nargs="+", default=list(SIZES), help="edges of the windows in voxels")
    parser.add_argument("--seconds", type=float, default=6, help="rounds of each row for so long")
    parser.add_argument("--engines", nargs="+", choices=NAMES, default=NAMES, help="rows to measure (default: all)")
    parser.add_argument("--emulated", action="store_true", help="bfloat16 of PyTorch where the processor has none, too")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


def main() -> None:
    """Measure every row of every window and print tables and bars."""
    options = parse_arguments()
    rows = [row for row in ROWS if row.engine in options.engines and row.runs_here(options.emulated)]
    print(machine := describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as cache_dir:
        windows = [measure_window(size, rows, options.seconds, cache_dir) for size in options.sizes]
    fast = BFLOAT16 if BFLOAT16 in rows else FLOAT32
    print("\n" + "\n".join(line for window in windows for line in judge(window, fast)))
    if options.json:
        write_json({"machine": machine, "windows": [window.record() for window in windows]}, options.json)


if __name__ == "__main__":
    main()
