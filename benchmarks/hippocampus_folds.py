"""One fold of the hippocampus task: what each network changes in the config, how fast it trains, and its score."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.measure import write_json

EPOCHS = 10
WARM_UP_STEPS, TIMED_STEPS = 2, 10
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
NETWORKS = ("ours", "scratch", *RIVALS)
OVERLAYS = ["configs/own_data.json", "configs/hippocampus.json"]
TASK = ["configs/train.json", *OVERLAYS]
EVALUATION = ["configs/inference.json", "configs/evaluate.json", *OVERLAYS]
Dice = dict[str, dict[str, float]]  # by structure and case


@dataclass(frozen=True)
class Fold:
    """One training and its score: a network, a fold of the data set, and where they go.

    Attributes:
        network: one of ``NETWORKS``.
        number: of the fold.
        dataset_dir: MSD's Task04.
        output_dir: of the whole benchmark.
        start_from: output folder of the run whose fold goes on; ``None`` starts as the config does.
    """

    network: str
    number: int
    dataset_dir: str
    output_dir: Path
    start_from: Path | None = None

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return self.output_dir / self.network / f"fold{self.number}"

    @property
    def first_weights(self) -> Path | None:
        """The last weights of the fold that goes on."""
        if self.start_from is None:
            return None
        return self.start_from / self.network / f"fold{self.number}" / "training" / "model.pt"

    def changes(self) -> dict[str, Any]:
        """Return what it changes in the config of the task."""
        weights = self.first_weights
        start = {} if weights is None else {"init_checkpoint": str(weights.resolve()), "init_partial": False}
        return {**changes(self.network), **start}


def changes(network: str) -> dict[str, Any]:
    """Return what a network changes in the config of the task."""
    if network == "ours":
        return {}
    if network == "scratch":
        return {"init_checkpoint": None}
    return {
        "init_checkpoint": None,
        "network_def": RIVALS[network],
        "inferer": STOCK_INFERER,
        "validate#inferer#inferer": STOCK_INFERER,
        "engine": "torch",
        **({"window": WINDOW} if network == "UNETR" else {}),
    }


def seconds_per_step(network: str, dataset_dir: str, folder: Path) -> float:
    """Return the processor seconds of one training step on one thread, its samples included."""
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(TASK)
    parser.update({"dataset_dir": dataset_dir, "output_dir": str(folder), **changes(network)})
    parser.parse()
    samples, model, loss, optimizer = (
        parser.get_parsed_content(key) for key in ("train#dataset", "network", "train#loss", "optimizer")
    )
    size = parser["batch_size"]
    samples.source.channel_counts()  # so that loading is not timed
    started = 0.0
    for step in range(-WARM_UP_STEPS, TIMED_STEPS):
        if step == 0:
            started = time.process_time()
        batch = [samples[size * (step + WARM_UP_STEPS) + place] for place in range(size)]
        image, label = (torch.stack([sample[key] for sample in batch]) for key in ("image", "label"))
        optimizer.zero_grad()
        loss(model(image), label).backward()
        optimizer.step()
    return (time.process_time() - started) / TIMED_STEPS


def score_fold(fold: Fold, epoch_length: int) -> tuple[float, Dice]:
    """Train and score one fold, unless it was done before, and print its line.

    Returns:
        The minutes of processor time that the training took, and the Dice of each structure and case.
    """
    fold.folder.mkdir(parents=True, exist_ok=True)
    write_json(fold.changes(), fold.folder / "changes.json")
    minutes, dice = train(fold, epoch_length), evaluate(fold)
    means = ", ".join(f"{structure} {fmean(cases.values()):.4f}" for structure, cases in dice.items())
    print(f"{fold.network} fold {fold.number}: {means}, {minutes:.1f} minutes", flush=True)
    return minutes, dice


def train(fold: Fold, epoch_length: int) -> float:
    """Train a fold, unless it was done before, and return the minutes of processor time that it took."""
    used = fold.folder / "minutes.txt"
    if not used.exists():
        seconds = run_bundle(
            [*TASK, str(fold.folder / "changes.json")],
            fold.folder / "train.log",
            dataset_dir=fold.dataset_dir,
            fold=fold.number,
            output_dir=fold.folder / "training",
            max_epochs=EPOCHS,
            val_interval=EPOCHS,
            epoch_length=epoch_length,
        )
        used.write_text(f"{seconds / 60:.2f}\n", encoding="utf-8")
    return float(used.read_text(encoding="utf-8"))


def evaluate(fold: Fold) -> Dice:
    """Score the held-out cases of a fold, unless it was done before, and return their Dice."""
    scores = fold.folder / "evaluation" / "scores.csv"
    if not scores.exists():
        run_bundle(
            [*EVALUATION, str(fold.folder / "changes.json")],
            fold.folder / "evaluate.log",
            dataset_dir=fold.dataset_dir,
            fold=fold.number,
            output_dir=fold.folder / "evaluation",
            overwrite=True,
            checkpoint=fold.folder / "training" / "model.pt",
            datalist="@fold_items",
        )
    dice: Dice = {}
    with open(scores, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            dice.setdefault(row["structure"], {})[row["case"]] = float(row["dice"])
    return dice


def run_bundle(files: list[str], log: Path, **ids: object) -> float:
    """Run a config on one thread in a process of its own; its output goes to ``log``.

    Returns:
        The processor seconds that it used.

    Raises:
        ChildProcessError: when it fails.
    """
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]
    for name, value in ids.items():
        command += [f"--{name}", str(value)]
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ChildProcessError(f"{log}: the run failed with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime
