"""Cross-validate the hippocampus task: our network and MONAI's, on the same folds, samples, steps and augmentation.

``python -m benchmarks.hippocampus DATASET_DIR [--networks ours SegResNet UNETR] [--folds 0 1 2 3 4] [--epochs N]
[--output-dir DIR]``; DATASET_DIR is MSD's Task04. A run that was interrupted goes on where it stopped. Each training is
``configs/train.json`` with ``configs/hippocampus.json``, each score that of ``configs/evaluate.json`` on the files'
own voxels.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WINDOW = [48, 64, 48]  # larger than every scan of the set, and a multiple of 16, which UNETR needs
STOCK_INFERER = {"_target_": "SlidingWindowInferer", "roi_size": WINDOW, "sw_batch_size": 1}
RIVALS = {
    "SegResNet": {
        "_target_": "monai.networks.nets.SegResNet",
        "init_filters": 16,
        "in_channels": 1,
        "out_channels": "@num_classes",
    },
    "DynUNet": {
        "_target_": "monai.networks.nets.DynUNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": "@num_classes",
        "kernel_size": [3, 3, 3, 3],
        "strides": [1, 2, 2, 2],
        "upsample_kernel_size": [2, 2, 2],
        "filters": [16, 32, 64, 128],
    },
    "UNETR": {
        "_target_": "monai.networks.nets.UNETR",
        "in_channels": 1,
        "out_channels": "@num_classes",
        "img_size": WINDOW,
        "feature_size": 16,
    },
}
TASK = ["configs/hippocampus.json"]


def overlay(name: str, folder: Path) -> list[str]:
    """Return the config files that replace our network by a rival."""
    if name == "ours":
        return []
    content = {
        "network_def": RIVALS[name],
        "inferer": STOCK_INFERER,
        "validate#inferer#inferer": STOCK_INFERER,
        **({"window": WINDOW} if name == "UNETR" else {}),
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return [str(path)]


def run_bundle(files: list[str], log: Path, **ids: object) -> None:
    """Run a config in a process of its own; its output goes to ``log``.

    Raises:
        RuntimeError: when it fails.
    """
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]
    for name, value in ids.items():
        command += [f"--{name}", str(value)]
    with open(log, "w", encoding="utf-8") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise RuntimeError(f"{log}: the run failed with exit code {code}.")


def score_fold(name: str, fold: int, options: argparse.Namespace) -> tuple[float, dict[str, list[float]]]:
    """Train and score one fold, unless it was done before.

    Returns:
        Seconds of the training, and the Dice of each case by structure.
    """
    folder = options.output_dir / name / f"fold{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    change = overlay(name, folder)
    common = {"dataset_dir": options.dataset_dir, "fold": fold}
    seconds, scores = folder / "seconds.txt", folder / "evaluation" / "scores.csv"
    if not seconds.exists():
        started = time.perf_counter()
        limits = {"max_epochs": options.epochs, "val_interval": options.epochs} if options.epochs else {}
        run_bundle(
            ["configs/train.json", *TASK, *change],
            folder / "train.log",
            output_dir=folder / "training",
            **common,
            **limits,
        )
        seconds.write_text(f"{time.perf_counter() - started:.1f}\n", encoding="utf-8")
    if not scores.exists():
        run_bundle(
            ["configs/inference.json", "configs/evaluate.json", *TASK, *change],
            folder / "evaluate.log",
            output_dir=folder / "evaluation",
            checkpoint=folder / "training" / "model.pt",
            label_table="models/hippocampus/labels.tsv",
            datalist="@fold_items",
            **common,
        )
    dice: dict[str, list[float]] = {}
    with open(scores, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            dice.setdefault(row["structure"], []).append(float(row["dice"]))
    return float(seconds.read_text(encoding="utf-8")), dice


def main() -> None:
    """Print a line for each fold and a table of the networks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("dataset_dir")
    parser.add_argument("--networks", nargs="+", default=["ours", "SegResNet", "UNETR"], choices=["ours", *RIVALS])
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, help="epochs of each training; the config's own number without it")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/hippocampus_benchmark"))
    options = parser.parse_args()
    table = {}
    for name in options.networks:
        dice: dict[str, list[float]] = {}
        times = []
        for fold in options.folds:
            seconds, found = score_fold(name, fold, options)
            times.append(seconds)
            for structure, values in found.items():
                dice.setdefault(structure, []).extend(values)
            means = ", ".join(f"{structure} {np.nanmean(values):.3f}" for structure, values in found.items())
            print(f"{name} fold {fold}: {means}, {seconds:.0f} s", flush=True)
        table[name] = (dice, sum(times))
    print(f"\n{'network':12}{'cases':>6}" + "".join(f"{structure:>12}" for structure in dice) + f"{'minutes':>9}")
    for name, (dice, total) in table.items():
        cases = len(next(iter(dice.values())))
        print(f"{name:12}{cases:6d}" + "".join(f"{np.nanmean(v):12.4f}" for v in dice.values()) + f"{total / 60:9.1f}")


if __name__ == "__main__":
    main()
