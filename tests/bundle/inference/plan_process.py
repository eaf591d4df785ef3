"""What a plan foretells, in a process of its own: ``python -m tests.bundle.inference.plan_process NAME FOLDER``."""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch.nn import functional

from bundle.inference import StreamInferer
from bundle.inference.calibration import Calibrations, held_memory, memory_growth
from bundle.inference.plan import Plan
from tests.threads import one_thread

CPU = torch.device("cpu")


class Wide:
    """A network of 33 classes and some hundred bytes a voxel."""

    def __init__(self) -> None:
        self.weights = torch.randn(16, 1, 3, 3, 3), torch.randn(33, 16, 1, 1, 1)

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        return functional.conv3d(functional.conv3d(windows, self.weights[0], padding=1).relu(), self.weights[1])


def image_of(size: tuple[int, ...]) -> MetaTensor:
    """Return an image of noise at 1 mm."""
    meta = {"original_affine": np.eye(4), "spatial_shape": np.array(size), "filename_or_obj": "scan.nii"}
    return MetaTensor(torch.rand(1, 1, *size), affine=torch.eye(4), meta=meta)


def foretold(cache: Path, window: tuple[int, ...]) -> dict[str, Any]:
    """Run a scan twice; return the lines of the plans, and the memory that the second was to take and took."""
    lines: list[str] = []
    inferer = StreamInferer(window, cache_dir=cache)
    inferer.show = lines.append
    image, network = image_of((120, 120, 140)), Wide()
    with one_thread():
        inferer(image, network)
        gc.collect()
        windows = inferer.windows(image.shape[2:])
        known = Calibrations(network, CPU, cache).find(windows.window, 1)
        plan = Plan(windows, 33, image[0, 0].numel(), False, known, held_memory(), on_grid=True)
        before = held_memory()
        with memory_growth(CPU) as growth:
            inferer(image, network)
    writing = replace(plan, scan_voxels=0).more_bytes  # nothing is written here
    return {"lines": lines, "found": growth[0] + before, "planned": writing + before}


def fitting(cache: Path) -> dict[str, Any]:
    """Run a scan in too little memory for its window; return the windows and the share of labels that differ."""
    shapes, wide = [], Wide()

    def network(windows: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(windows.shape[2:]))
        return wide(windows)

    image = image_of((96, 96, 200))
    usual = StreamInferer((96, 96, 200), cache_dir=cache)(image, network)
    shapes.clear()
    limit = held_memory() + 300_000_000
    inferer = StreamInferer((96, 96, 200), max_memory=limit, smallest_window=(32, 32, 32), cache_dir=cache)
    found = inferer(image, network)
    return {"shapes": shapes, "different": float((found != usual).float().mean())}


if __name__ == "__main__":
    name, folder, *rest = sys.argv[1:]
    print(json.dumps({"foretold": foretold, "fitting": fitting}[name](Path(folder), *map(json.loads, rest))))
