"""A training of seconds: a tiny network on label maps made by code, through configs/train.json."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from tests.conftest import ROOT

NETWORK = {
    "channels": [4, 8, 8],
    "hidden_size": 12,
    "mlp_dim": 16,
    "num_layers": 1,
    "num_heads": 2,
    "position_grid": [2, 2, 2],
}
OPTIONS: dict[str, Any] = {
    **{f"network_def#{key}": value for key, value in NETWORK.items()},
    "pixdim": [6.0] * 3,
    "window_mm": [[96] * 3, [96] * 3],
    "epoch_length": 3,
    "max_epochs": 2,
    "val_interval": 2,
    "validate#dataset#length": 2,
    "num_workers": 0,
    "warmup_steps": 2,
    "learning_rate": 0.01,
    "precision": "float32",
}
TRAIN, MULTI_GPU = str(ROOT / "configs" / "train.json"), str(ROOT / "configs" / "multi_gpu_train.json")


def command(maps: Path, output_dir: Path, *configs: str, **options: Any) -> list[str]:
    """Return the arguments of ``python -m`` for such a training."""
    names = str([TRAIN, *configs])
    given = {"dataset_dir": maps, "output_dir": output_dir, **OPTIONS, **options}
    return [
        *("monai.bundle", "run", "--config_file", names),
        *(str(part) for key, value in given.items() for part in (f"--{key}", value)),
    ]


def train(maps: Path, output_dir: Path, *configs: str, **options: Any) -> ConfigWorkflow:
    """Train within this process and return the finished workflow; what is given as ``...`` is left to the configs."""
    hook = sys.excepthook
    folders = {"bundle_root": str(ROOT), "dataset_dir": str(maps), "output_dir": str(output_dir)}
    given = {name: value for name, value in {**folders, **OPTIONS, **options}.items() if value is not ...}
    workflow = ConfigWorkflow([TRAIN, *configs], workflow_type="train", logging_file=False, **given)
    try:
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    finally:
        sys.excepthook = hook
    return workflow


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Return a state dict."""
    return torch.load(path, weights_only=True)


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Tell whether two state dicts are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def column(folder: Path, name: str) -> list[float]:
    """Return a column of ``history.csv``, without the rows where it is empty."""
    with (folder / "history.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]
