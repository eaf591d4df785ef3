"""How time and memory of global, block, global-local and pooled attention grow with the tokens of a cubic grid.

``python -m benchmarks.attention_scaling [--grids N ...] [--limit S] [--output PNG]``. Width and heads are those of the
network that ships; each point is measured in a process of its own. Prints a table and the exponents of N, fitted over
all points, and draws both panels.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import in_own_process, make_parser, met_or_missed, peak_mib, positive, seconds_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

HIDDEN_SIZE, NUM_HEADS = 192, 6  # those of the default ``TransformerUNet``
BLOCK_SIZE, LARGE_BLOCK_SIZE = 4, 8
POOLED_SIZE = 6
GRIDS = (12, 16, 24, 32, 48)
SECONDS = 10  # spent on the rounds of a point, of which the fastest counts
EXPONENT_BAR = 1.2
PANELS = (("seconds", "s", "Time"), ("mib", "MiB", "Peak memory"))
PICTURE_INCHES, PICTURE_DPI = (12, 5), 100
Run = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class Kind:
    """One attention module, the block that must fill its grids, how it is drawn, and whether its growth has a bar."""

    name: str
    build: Callable[[], Run]
    block_size: int
    color: str
    marker: str
    has_bar: bool


def over_all() -> Run:
    """Return self-attention over all tokens of a grid (B, D, H, W, C)."""
    from networks import SABlock

    block = SABlock(HIDDEN_SIZE, NUM_HEADS, qkv_bias=True).eval()
    return lambda x: block(x.flatten(1, 3)).reshape(x.shape)


def local(block_size: int) -> Run:
    """Return attention inside blocks only."""
    from networks import BlockAttention

    return BlockAttention(HIDDEN_SIZE, NUM_HEADS, block_size, qkv_bias=True).eval()


def global_local(pooled_size: int | None) -> Run:
    """Return both branches; the global keys are all tokens, or averages over a grid of ``pooled_size``^3."""
    from networks import GlobalLocalAttention

    return GlobalLocalAttention(HIDDEN_SIZE, NUM_HEADS, BLOCK_SIZE, pooled_size=pooled_size, qkv_bias=True).eval()


KINDS = (
    Kind("global", over_all, 1, "C3", "o", False),
    Kind(f"global-local, block {BLOCK_SIZE}", lambda: global_local(None), BLOCK_SIZE, "C1", "s", False),
    Kind(f"pooled {POOLED_SIZE}, block {BLOCK_SIZE}", lambda: global_local(POOLED_SIZE), BLOCK_SIZE, "C4", "D", True),
    Kind(f"block {LARGE_BLOCK_SIZE}", lambda: local(LARGE_BLOCK_SIZE), LARGE_BLOCK_SIZE, "C2", "^", True),
    Kind(f"block {BLOCK_SIZE}", lambda: local(BLOCK_SIZE), BLOCK_SIZE, "C0", "v", True),
)


@dataclass(frozen=True)
class Point:
    """Seconds (the fastest round) and peak MiB of one kind on a grid of N tokens."""

    tokens: int
    seconds: float
    mib: float


def measure(index: int, grid: int) -> dict[str, float]:
    """Return the cost of one of ``KINDS`` on a cubic grid; memory is that of the first run."""
    import torch

    run, x = KINDS[index].build(), torch.randn(1, grid, grid, grid, HIDDEN_SIZE)
    with torch.inference_mode():
        mib = peak_mib(lambda: run(x[:, :4, :4, :4]), lambda: run(x))
        times: list[float] = []
        while sum(times) < SECONDS:
            times.append(seconds_of(lambda: run(x)))
    return {"tokens": grid**3, "seconds": min(times), "mib": mib}


def exponent(points: list[Point], attribute: str) -> float:
    """Return the exponent p of the least-squares fit cost ~ N^p in logarithms; nan for fewer than two points."""
    if len(points) < 2:
        return math.nan
    import numpy as np

    costs = [getattr(point, attribute) for point in points]
    return float(np.polyfit(np.log([point.tokens for point in points]), np.log(costs), 1)[0])


def sweep(kind: Kind, grids: list[int], limit: float) -> list[Point]:
    """Measure and print the points of one kind, small grids first, leaving out those that would take too long."""
    points: list[Point] = []
    for grid in sorted(grids):
        row = f"{kind.name:24}{f'{grid}^3':>6}{grid**3:10}"
        if grid % kind.block_size:
            # Padding would make small grids dearer, and the growth look slower than it is.
            print(f"{row}   skipped: blocks of {kind.block_size} do not fill it", flush=True)
            continue
        # The last two points say it best: on small grids the projections, linear in N, hide the scores.
        growth = exponent(points[-2:], "seconds") if len(points) > 1 else 2.0
        estimate = points[-1].seconds * (grid**3 / points[-1].tokens) ** growth if points else 0.0
        if estimate > limit:
            print(f"{row}   skipped: about {estimate:.0f} s, the limit is {limit:.0f} s", flush=True)
            continue
        points.append(Point(**in_own_process(measure, KINDS.index(kind), grid)))
        print(f"{row}{1e3 * points[-1].seconds:12.1f}{points[-1].mib:10.1f}", flush=True)
    return points


def draw(results: dict[Kind, list[Point]], output: Path) -> None:
    """Draw time and memory over tokens, each on logarithmic axes with lines of slope 1 and 2, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    figure = Figure(figsize=PICTURE_INCHES, dpi=PICTURE_DPI, layout="constrained")
    ticks = sorted({point.tokens for points in results.values() for point in points})
    for panel, (attribute, unit, title) in zip(figure.subplots(1, 2), PANELS, strict=True):
        for kind, points in results.items():
            label = f"{kind.name}: $N^{{{exponent(points, attribute):.2f}}}$"
            tokens, costs = [point.tokens for point in points], [getattr(point, attribute) for point in points]
            panel.loglog(tokens, costs, color=kind.color, marker=kind.marker, markersize=5, label=label)
        add_slopes(panel)
        panel.set_xticks(ticks, [f"{tokens:,}\n{round(tokens ** (1 / 3))}³" for tokens in ticks])
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.set(xlabel="tokens N (grid)", ylabel=f"{title.lower()} [{unit}]", title=title)
        panel.legend(frameon=False, fontsize=9, loc="upper left")
        panel.grid(which="major", color="0.92")
        panel.spines[["top", "right"]].set_visible(False)
    output.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(output)  # type: ignore[no-untyped-call]


def add_slopes(panel: Axes) -> None:
    """Draw thin lines of slope 1 and 2 from one point into the free corner at the lower right."""
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    start = left * (right / left) ** 0.6, bottom * (top / bottom) ** 0.03
    end = left * (right / left) ** 0.93
    for slope, label in ((1, "N"), (2, "N²")):
        height = start[1] * (end / start[0]) ** slope
        panel.plot([start[0], end], [start[1], height], color="0.55", linewidth=0.8)
        panel.annotate(label, (end, height), xytext=(4, 0), textcoords="offset points", va="center", color="0.4")
    panel.set(xlim=(left, right), ylim=(bottom, top))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--grids", type=positive, nargs="+", default=list(GRIDS), help="tokens along each axis")
    parser.add_argument("--limit", type=float, default=120, help="leave out points that would take more seconds a run")
    parser.add_argument("--output", type=Path, default=Path("output/attention_scaling.png"))
    return parser.parse_args()


def main() -> None:
    """Measure all points, print the exponents and draw them."""
    options = parse_arguments()
    import torch

    print(f"{HIDDEN_SIZE} channels, {NUM_HEADS} heads, float32, {torch.get_num_threads()} threads, "
          f"torch {torch.__version__}")  # fmt: skip
    print(f"{'attention':24}{'grid':>6}{'tokens':>10}{'min ms':>12}{'peak MiB':>10}")
    results = {kind: sweep(kind, options.grids, options.limit) for kind in KINDS}
    print(f"\n{'exponent of N':24}{'time':>8}{'memory':>8}")
    for kind, points in results.items():
        powers = [exponent(points, attribute) for attribute in ("seconds", "mib")]
        judged = kind.has_bar and len(points) > 1
        bar = f"   bar {EXPONENT_BAR} {met_or_missed(max(powers) < EXPONENT_BAR)}" if judged else ""
        print(f"{kind.name:24}{powers[0]:8.2f}{powers[1]:8.2f}{bar}")
    draw(results, options.output)
    print(f"\npicture: {options.output}")


if __name__ == "__main__":
    main()
