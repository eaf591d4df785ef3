"""What streaming takes: memory and time by length, classes and size, beside the logits as a whole, and beside its plan.

``python -m benchmarks.streaming [--rows NAME ...] [--planes N] [--json FILE]``. Each figure comes from a process of its
own, with glibc set as the programs do. ``large`` is a scan of 512 x 512 x 600 voxels and 118 classes by a small network
with random weights, or of ``--planes``; ``restoring`` is that of heads, the MNI152 T1 and one of noise, beside MONAI's
and scipy's ways; ``head`` segments the MNI152 T1 with the weights that ship. Memory is MiB above what the libraries and
a small scan take.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import (
    describe_machine,
    in_own_process,
    make_parser,
    peak_mib,
    positive,
    resident_peak_mib,
    sample_scan,
    silence,
    timed,
    verdict,
    write_json,
)
from bundle.process import restart_without_thread_cache

LARGE, LARGE_CLASSES, LARGE_WINDOW = (512, 512, 600), 118, (128, 128, 8)
LENGTHS, CLASSES = (150, 300, 600, 1200), (2, 33, 118, 300)
PLANE, WINDOW, MIB = (96, 96), (96, 96, 32), 2**20
ROUNDS = 7
"""Runs of each length, whose medians are printed."""
WIDTH = 32
"""Channels of the small network, as of the first stage of a usual U-Net."""


def small_network(classes: int) -> Any:
    """Return two convolutions and a head with random weights."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = (nn.Conv3d(1, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv3d(WIDTH, WIDTH, 3, padding=1), nn.ReLU())
    return nn.Sequential(*layers, nn.Conv3d(WIDTH, classes, 1)).eval()


def stream_case(size: list[int], classes: int, window: list[int], one_piece: int) -> dict[str, float]:
    """Return the memory and the seconds of a scan on its own grid, and what the plan says of the memory."""
    silence()
    import numpy as np
    import torch

    from bundle.engines.head import Features
    from bundle.engines.networks import TorchNetwork
    from bundle.inference import stream_labels
    from bundle.inference.calibration import Calibration, Watch
    from bundle.inference.plan import Plan
    from bundle.inference.slabs import Windows
    from bundle.inference.windows import memory_for

    network = TorchNetwork(small_network(classes), bfloat16=False).eval()
    features, watch, seconds = Features(network), None, 0.0

    def run(shape: list[int]) -> None:
        nonlocal watch, seconds
        windows = Windows(tuple(shape), tuple(map(min, shape, window)), (0.25,) * 3)
        image = torch.rand(1, 1, *shape)
        watch, pieces = Watch(features), range(1, 1 + one_piece)
        with memory_for(network, image), torch.inference_mode():
            seconds, _ = timed(
                lambda: stream_labels(image, watch, windows, np.eye(4), shape, pieces, head=network.head)
            )

    peak = peak_mib(lambda: run([32, 32, 16]), lambda: run(size))
    assert watch is not None
    windows = Windows(tuple(size), tuple(map(min, size, window)), (0.25,) * 3)
    known = Calibration(windows.window, 1, watch.bytes or 0, watch.seconds / watch.windows)
    plan = Plan(windows, classes, prod(size), one_piece > 0, known, 0, True, features.head.channels)
    scan = 4 * prod(size) / MIB  # its labels count: they are not all written yet when most memory is held
    return {
        "peak_mib": peak,
        "scan_mib": scan,
        "rest_mib": peak - scan,
        "seconds": seconds,
        "network_seconds": watch.seconds * whole_over_part(network, features, windows.window),
        "planned_mib": plan.more_bytes / MIB + scan,
        "logits_mib": 4 * classes * prod(size) / MIB,
    }


def whole_over_part(network: Any, features: Any, window: tuple[int, ...]) -> float:
    """Return what a network takes of a window over what it takes without its head, which streaming does on its own."""
    import torch

    image = torch.rand(1, 1, *window)
    with torch.inference_mode():
        found = [(timed(lambda: network(image))[0], timed(lambda: features(image))[0]) for _ in range(9)]
    return float(median(whole for whole, _ in found) / median(part for _, part in found))


def print_case(name: str, row: dict[str, float]) -> None:
    """Print a scan's figures."""
    print(
        f"{name:34}{row['peak_mib']:8.0f}{row['rest_mib']:8.0f}{row['planned_mib']:9.0f}{row['logits_mib']:9.0f}"
        f"{row['seconds']:9.1f}{row['seconds'] / row['network_seconds']:9.2f} x"
    )


def large(planes: int) -> dict[str, Any]:
    """Measure the large scan, with and without structures that are of one piece."""
    size = [*LARGE[:2], planes]
    rows = {}
    for one_piece in (0, LARGE_CLASSES - 1):
        row = in_own_process(stream_case, size, LARGE_CLASSES, list(LARGE_WINDOW), one_piece)
        print_case(f"{' x '.join(map(str, size))}, {LARGE_CLASSES} classes{', pieces' if one_piece else ''}", row)
        print(verdict("  GB above the libraries", row["peak_mib"] * MIB / 1e9, 3.0, at_most=True))
        print(verdict("  time over the network's", row["seconds"] / row["network_seconds"], 1.5, " x", at_most=True))
        rows[f"one_piece_{one_piece}"] = row
    return rows


def lengths(_: int) -> dict[str, Any]:
    """Measure scans of growing length, in turn: what a process takes at one length differs by more than the lengths."""
    runs: dict[int, list[dict[str, float]]] = {length: [] for length in LENGTHS}
    for length in LENGTHS * ROUNDS:
        runs[length].append(in_own_process(stream_case, [*PLANE, length], 33, list(WINDOW), 0))
    rows = {length: {name: median(run[name] for run in found) for name in found[0]} for length, found in runs.items()}
    for length, row in rows.items():
        print_case(f"{PLANE[0]} x {PLANE[1]} x {length}, 33 classes", row)
    rest = [row["rest_mib"] for row in rows.values()]
    print(verdict("  memory but for the scan, largest over smallest", max(rest) / min(rest), 1.05, at_most=True))
    seconds = [row["seconds"] for row in rows.values()]
    print(verdict("  R^2 of time by length", r_squared(list(LENGTHS), seconds), 0.99))
    return {str(length): row for length, row in rows.items()}


def by_classes(_: int) -> dict[str, Any]:
    """Measure networks of few and of many classes."""
    rows = {count: in_own_process(stream_case, [*PLANE, 200], count, list(WINDOW), 0) for count in CLASSES}
    for count, row in rows.items():
        print_case(f"{PLANE[0]} x {PLANE[1]} x 200, {count} classes", row)
    return {str(count): row for count, row in rows.items()}


def r_squared(x: list[float] | list[int], y: list[float]) -> float:
    """Return how much of the variance a straight line explains."""
    import numpy as np

    return float(np.corrcoef(x, y)[0, 1] ** 2)


RESTORERS = ("bundle", "grid_sample", "map_coordinates")
NOISE = "restoring of noise at 1.25 mm"
RESTORED = ("restoring of the MNI152 T1 at 1.0 mm", "restoring of the MNI152 T1 at 1.25 mm", NOISE)


def noise_logits() -> tuple[Any, Any, list[int]]:
    """Return logits of smooth noise at 1.25 mm, and the affine and the shape of a scan at 1 mm."""
    import numpy as np
    import torch
    from torch.nn import functional

    noise = 20 * torch.randn(1, 33, 8, 10, 8, generator=torch.Generator().manual_seed(0))
    logits = functional.interpolate(noise, size=(128, 160, 136), mode="trilinear")[0]
    return logits, np.diag([0.8, 0.8, 0.8, 1.0]), [160, 200, 170]


def head_logits(pixdim: float) -> tuple[Any, Any, list[int]]:
    """Return the logits of the MNI152 T1 at a voxel size, its affine as seen from their grid, and its shape."""
    import numpy as np
    import torch

    from bundle.inference.segmenter import Segmenter

    with sample_scan(None) as image, tempfile.TemporaryDirectory() as folder:
        segmenter = Segmenter(output_dir=folder, device="cpu", pixdim=[pixdim] * 3)
        data = segmenter.preprocessing({"image": image})
        logits, item = segmenter.logits(data).clone(), data["image"]
    to_grid = np.linalg.inv(np.asarray(item.affine)) @ np.asarray(item.meta["original_affine"])
    return logits.as_subclass(torch.Tensor), to_grid, [int(length) for length in item.meta["spatial_shape"]]


def restore_case(of: str, kind: str) -> dict[str, float]:
    """Return CPU seconds and memory of the way from logits to the labels of a scan at 1 mm, in one of three ways."""
    silence()
    import numpy as np
    import torch
    from scipy.ndimage import map_coordinates
    from torch.nn import functional

    from bundle.inference import restore_labels

    logits, to_grid, shape = noise_logits() if of == NOISE else head_logits(float(of.split()[-2]))
    places = [to_grid[axis, 3] + to_grid[axis, axis] * np.arange(n) for axis, n in enumerate(shape)]

    def bundle() -> Any:
        return restore_labels(logits, np.eye(4), to_grid, shape)

    def grid_sample() -> Any:
        axes = [torch.from_numpy(p).float() / (m - 1) * 2 - 1 for p, m in zip(places, logits.shape[1:], strict=True)]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)[None]
        options: dict[str, Any] = {"padding_mode": "border", "align_corners": True}
        return functional.grid_sample(logits.softmax(0)[None], grid, **options).argmax(1)

    def scipys() -> Any:
        index = np.stack(np.meshgrid(*places, indexing="ij"))
        probabilities = logits.softmax(0).numpy()
        return np.stack([map_coordinates(one, index, order=1, mode="nearest") for one in probabilities]).argmax(0)

    ways: dict[str, Callable[[], Any]] = {"bundle": bundle, "grid_sample": grid_sample, "map_coordinates": scipys}
    before, started = resident_peak_mib(), time.process_time()
    with torch.inference_mode():
        ways[kind]()
    return {"cpu_seconds": time.process_time() - started, "mib": resident_peak_mib() - before}


def restoring(_: int) -> dict[str, Any]:
    """Measure the way back to the scan's grid."""
    rows: dict[str, Any] = {}
    for of in RESTORED:
        found = {kind: in_own_process(restore_case, of, kind) for kind in RESTORERS}
        for kind, row in found.items():
            print(f"  {of + ', ' + kind:40}{row['cpu_seconds']:8.2f} CPU s{row['mib']:8.0f} MiB")
        print(verdict("  bundle", found["bundle"]["cpu_seconds"], 0.8, " CPU s", at_most=True))
        rows[of] = found
    return rows


def head_case(image: str, streaming: bool, rounds: int) -> dict[str, float]:
    """Return seconds and memory of segmenting a head again and again in one process, and what the plan foretold."""
    silence()
    from bundle.inference.segmenter import Segmenter

    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"output_dir": folder, "overwrite": True, "device": "cpu", "streaming": streaming}
        segmenter = Segmenter(cache_dir=str(Path(folder) / "cache"), **options)
        seconds = [timed(lambda: segmenter.segment(image))[0] for _ in range(rounds)]
        data = segmenter.preprocessing({"image": image})
        streamed = timed(lambda: segmenter.infer(data))[0]
    plan = getattr(segmenter.inferer, "plan", None)
    found = {"seconds": min(seconds), "peak_mib": resident_peak_mib(), "streamed_seconds": streamed}
    if plan is not None:
        found |= {"planned_mib": plan.bytes / MIB, "planned_seconds": plan.seconds or math.nan}
    return found


def head(_: int) -> dict[str, Any]:
    """Measure a head: streamed and not, and its plan."""
    with sample_scan(None) as image:
        rows = {name: in_own_process(head_case, image, name == "streamed", 2) for name in ("streamed", "whole")}
    for name, row in rows.items():
        print(f"  MNI152 T1, {name:22}{row['seconds']:8.1f} s{row['peak_mib']:8.0f} MiB of the whole process")
    row = rows["streamed"]
    for what, unit, bar in (("mib", "planned_mib", 0.2), ("seconds", "planned_seconds", 0.3)):
        real = row["peak_mib"] if what == "mib" else row["streamed_seconds"]
        name = f"  plan against reality, {what}: {row[unit]:.1f} against {real:.1f}, off by"
        print(verdict(name, abs(row[unit] / real - 1), bar, at_most=True))
    return rows


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "head": head,
    "restoring": restoring,
    "length": lengths,
    "classes": by_classes,
    "large": large,
}


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--planes", type=positive, default=LARGE[2], help="of the large scan")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    return parser.parse_args()


def main() -> None:
    """Measure and print row by row."""
    options = parse_arguments()
    restart_without_thread_cache()
    print(describe_machine())
    print(f"{'scan':34}{'MiB':>8}{'rest':>8}{'planned':>9}{'logits':>9}{'seconds':>9}{'of network':>11}")
    found = {name: ROWS[name](options.planes) for name in options.rows}
    if options.json:
        write_json(found, options.json)


if __name__ == "__main__":
    main()
