"""The network that ships in every engine that runs here, beside MONAI's UNETR-B and SwinUNETR-48 in eager PyTorch.

``python -m benchmarks.engines [--sizes N ...] [--seconds S] [--engines NAME ...] [--emulated] [--json FILE]``. Each row
is one cubic float32 window on the CPU, measured in a process of its own. Prints median seconds, the ratios to our eager
float32 and to UNETR-B, the operations per second, their share of what a matrix product reaches here, and the bars.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unetr import UNETR
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.attention import available_gib, in_own_process
from bundle.engines import choose, load_network
from bundle.machine import keep_freed_memory, use_bfloat16
from networks import TransformerUNet

CHECKPOINT = Path(__file__).resolve().parents[1] / "models" / "model.pt"
OUT_CHANNELS = 33
SIZES = (96, 160)
ROUNDS, LONG_SECONDS = 3, 20  # so many rounds at least, unless they take longer than that
MEMORY_SHARE = 0.9  # of the free memory that a row may take
PRODUCT_SIZES, PRODUCT_SECONDS = (1024, 2048, 4096), 1.0
EAGER_BAR, UNETR_BAR, PEAK_BAR = 3.0, 8.0, 0.35
Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """An engine of ours or a network of MONAI's, its precision, and whether ``keep_freed_memory`` is called."""

    engine: str
    precision: str = "float32"
    keeps_memory: bool = True

    @property
    def is_ours(self) -> bool:
        """Whether the network is the one that ships."""
        return self.engine not in MONAI

    @property
    def label(self) -> str:
        """Owner, engine and precision."""
        plain = ", as a plain user runs it" if self == EAGER else ""
        return f"{'ours' if self.is_ours else 'MONAI':6}{self.engine} {self.precision}{plain}"

    def build(self, size: int, cache_dir: str) -> Callable[[Tensor], Any]:
        """Return the network for a window of ``size``^3."""
        if not self.is_ours:
            return MONAI[self.engine](size).eval()
        return load_network(TransformerUNet(), CHECKPOINT, self.engine, self.precision, cache_dir=cache_dir)


MONAI = {
    # ViT-B: MONAI's defaults, 16 features, hidden 768, 12 layers, patches of 16.
    "UNETR-B": lambda size: UNETR(1, OUT_CHANNELS, size, feature_size=16, hidden_size=768, mlp_dim=3072, num_heads=12),
    "SwinUNETR-48": lambda size: SwinUNETR(1, OUT_CHANNELS, feature_size=48),
}
EAGER, KEEPING = Row("torch", keeps_memory=False), Row("torch")
UNETR_B, SWIN = (Row(name, keeps_memory=False) for name in MONAI)
ROWS = (
    EAGER,  # as a plain user runs it; the bars are against this and against MONAI's run likewise
    KEEPING,
    Row("torch", "bfloat16"),
    Row("torchscript"),
    Row("torchscript", "bfloat16"),
    Row("onnxruntime"),
    Row("openvino"),
    Row("openvino", "bfloat16"),
    UNETR_B,
    SWIN,
)
NAMES = tuple(dict.fromkeys(row.engine for row in ROWS))


def runs_here(row: Row, emulated: bool) -> bool:
    """Tell whether the processor has the precision, or PyTorch is asked to emulate it."""
    return row.precision == "float32" or use_bfloat16("auto", "cpu") or (emulated and row.engine != "openvino")


def describe_machine() -> str:
    """Return the processor, its vector extensions, the threads used, and how busy the machine is already."""
    name = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():
        models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line[:10] == "model name"]
        name = models[0] if models else name
    bfloat16 = "bfloat16" if use_bfloat16("auto", "cpu") else "no bfloat16"
    return (f"{name}, {torch.backends.cpu.get_cpu_capability()}, {bfloat16}, {torch.get_num_threads()} threads, "
            f"torch {torch.__version__}, {available_gib():.1f} GiB free, load {os.getloadavg()[0]:.1f}")  # fmt: skip


def count_gflop(size: int) -> float:
    """Return the 1e9 operations of one window: convolutions, linears and attention, a product and a sum being two."""
    # On the meta device nothing is computed. The eager kernel, as the counter takes the CPU's fused one for free.
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        TransformerUNet(use_flash_attention=False).eval()(torch.empty(1, 1, size, size, size))
    return counter.get_total_flops() / 1e9


def time_rounds(run: Callable[[], object], seconds: float) -> list[float]:
    """Return the seconds of each round; the first one warms up and counts only where it takes very long."""
    times: list[float] = []
    while sum(times[1:]) < (LONG_SECONDS if len(times) <= ROUNDS else seconds):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
        if times[0] > LONG_SECONDS:
            return times
    return times[1:]


def peak_gflops(precision: str) -> Result:
    """Return the most 1e9 operations per second of a square matrix product, and its size."""
    best = {"gflops": 0.0, "size": 0}
    for size in PRODUCT_SIZES:
        a, b, out = (torch.rand(size, size).to(getattr(torch, precision)) for _ in range(3))
        fastest = min(time_rounds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), PRODUCT_SECONDS))
        best = max(best, {"gflops": 2e-9 * size**3 / fastest, "size": size}, key=lambda found: found["gflops"])
    return best


def measure(row: Row, size: int, seconds: float, cache_dir: str) -> Result:
    """Return the median seconds of one window and the rounds, or why there are none."""
    warnings.simplefilter("ignore")
    limit = int(MEMORY_SHARE * available_gib() * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # an error here, before the system kills others
    if row.keeps_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    try:
        network, image = row.build(size, cache_dir), torch.rand(1, 1, size, size, size)
        times = time_rounds(lambda: network(image), seconds)
    except (ValueError, RuntimeError, MemoryError, ImportError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return {"error": "out of memory" if "alloc" in reason else reason[:120]}
    return {"seconds": median(times), "rounds": len(times)}


def measure_apart(row: Row, size: int, seconds: float, cache_dir: str) -> Result:
    """Measure in a process of its own."""
    print(f"{size}^3  {row.label} ...", file=sys.stderr, flush=True)
    try:
        return in_own_process("benchmarks.engines", "--row", ROWS.index(row), size, seconds, cache_dir)
    except subprocess.CalledProcessError as error:
        return {"error": f"ended with code {error.returncode}" + (", out of memory?" if error.returncode < 0 else "")}


def derive(results: dict[Row, Result], gflop: float, peaks: dict[str, Result]) -> None:
    """Add the ratios, operations per second and their share of the peak to the rows that have what they need."""
    for row, result in results.items():
        if "seconds" not in result:
            continue
        for key, reference in (("eager_ratio", EAGER), ("unetr_ratio", UNETR_B)):
            if "seconds" in results.get(reference, {}):
                result[key] = results[reference]["seconds"] / result["seconds"]
        if row.is_ours:
            result["gflops"] = gflop / result["seconds"]
            # Emulated bfloat16 is held against float32, which is what the processor computes in.
            result["of_peak"] = result["gflops"] / peaks.get(row.precision, peaks["float32"])["gflops"]


def print_window(size: int, gflop: float, peaks: dict[str, Result], results: dict[Row, Result], default: Row) -> None:
    """Print the table of one window."""
    products = (f"{name} {peak['gflops']:.0f} GFLOP/s (N = {peak['size']})" for name, peak in peaks.items())
    print(f"\nwindow {size}^3, {gflop:.1f} GFLOP in ours; peak of a matrix product: {', '.join(products)}")
    print(f"{'':50}{'median s':>9}{'rounds':>7}{'eager / it':>11}{'UNETR-B / it':>13}{'GFLOP/s':>9}{'of peak':>9}")
    for row, result in results.items():
        label = f"{row.label}{' (default)' if row == default else ''}"
        if "error" in result:
            print(f"{label:50} {result['error']}")
            continue
        columns = (("eager_ratio", "11.2f"), ("unetr_ratio", "13.2f"), ("gflops", "9.1f"), ("of_peak", "9.2f"))
        figures = "".join(f"{result.get(key, math.nan):{form}}".replace("nan", "  -") for key, form in columns)
        print(f"{label:50}{result['seconds']:9.3f}{result['rounds']:7}{figures}")
    sys.stdout.flush()


def judge(size: int, results: dict[Row, Result], default: Row) -> Iterator[str]:
    """Yield how the default stands to the bars."""
    found = results.get(default, {})
    keeping = results.get(KEEPING, {}).get("seconds", math.nan) / found.get("seconds", math.nan)
    for name, key, bar, note in (
        ("eager float32 / default", "eager_ratio", EAGER_BAR, f" ({keeping:.2f} with freed memory kept in both)"),
        ("MONAI UNETR-B / default", "unetr_ratio", UNETR_BAR, ""),
        ("default / peak of a matrix product", "of_peak", PEAK_BAR, ""),
    ):
        yield f"{size}^3  " + verdict(name, found.get(key, math.nan), bar) + note


def verdict(name: str, value: float, bar: float, unit: str = "", at_most: bool = False) -> str:
    """Return one line that says whether a figure meets its bar."""
    if math.isnan(value):
        return f"{name}: not measured"
    met = value <= bar if at_most else value >= bar
    return f"{name}: {value:.2f}{unit}, bar {'<=' if at_most else '>='} {bar:g}{unit} {'met' if met else 'MISSED'}"


def main() -> None:
    """Measure every row of every window and print tables and bars."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="edges of the windows in voxels")
    parser.add_argument("--seconds", type=float, default=6, help="rounds of each row for so long")
    parser.add_argument("--engines", nargs="+", choices=NAMES, default=NAMES, help="rows to measure (default: all)")
    parser.add_argument("--emulated", action="store_true", help="bfloat16 of PyTorch where the processor has none, too")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with torch.inference_mode():
        if options.row:
            index, size, seconds, cache_dir = options.row
            print(json.dumps(measure(ROWS[int(index)], int(size), float(seconds), cache_dir)))
            return
        if options.peak:
            print(json.dumps(peak_gflops(options.peak)))
            return

    choice = choose("auto", "auto", "cpu", CHECKPOINT)
    default = Row(choice.engine, choice.precision)
    rows = [row for row in ROWS if row.engine in options.engines and runs_here(row, options.emulated)]
    print(machine := describe_machine(), flush=True)
    written, verdicts = [], []
    with tempfile.TemporaryDirectory() as cache_dir:
        for size in options.sizes:
            precisions = ("float32", "bfloat16") if use_bfloat16("auto", "cpu") else ("float32",)
            peaks = {name: in_own_process("benchmarks.engines", "--peak", name) for name in precisions}
            results = {row: measure_apart(row, size, options.seconds, cache_dir) for row in rows}
            gflop = count_gflop(size)
            derive(results, gflop, peaks)
            print_window(size, gflop, peaks, results, default)
            verdicts += judge(size, results, default)
            figures = [{**asdict(row), "default": row == default, **result} for row, result in results.items()]
            written.append({"size": size, "gflop": gflop, "peaks": peaks, "rows": figures})
    print("\n" + "\n".join(verdicts))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "windows": written}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
