"""A training of seconds on a data set of one's own made by code, through train.json and own_data.json."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import monai.bundle

from tests.bundle.training.tiny_training import NETWORK
from tests.conftest import ROOT

NETWORK_OPTIONS = {f"network_def#{key}": value for key, value in NETWORK.items()}
TRAINING: dict[str, Any] = {
    **{"max_epochs": 1, "epoch_length": 2, "batch_size": 2, "window": [16, 16, 16], "val_interval": 1},
    **{"num_workers": 0, "warmup_steps": 1, "precision": "float32", "num_folds": 3, "init_checkpoint": ""},
}


@contextmanager
def bundle_root():
    """Work in the bundle's root, as the commands do, and take back the hook for errors that a training sets."""
    before, hook = Path.cwd(), sys.excepthook
    os.chdir(ROOT)
    try:
        yield
    finally:
        os.chdir(before)
        sys.excepthook = hook


def run_bundle(*names: str, **options: Any) -> None:
    """Do what ``python -m monai.bundle run`` does with configs, within this process, in the bundle's root."""
    given = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    files = [name if name.endswith(".json") else f"configs/{name}.json" for name in names]
    with bundle_root():
        monai.bundle.run(config_file=files, logging_file=False, **given)


def train_on(dataset_dir: Path, output_dir: Path, *overlays: str, **options: Any) -> Path:
    """Train a tiny network and return the folder of the model."""
    given = {**TRAINING, **NETWORK_OPTIONS, "dataset_dir": dataset_dir, "output_dir": output_dir, **options}
    run_bundle("train", "own_data", *overlays, **given)
    return output_dir
