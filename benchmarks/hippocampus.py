"""Cross-validate the hippocampus task: our network and MONAI's, on the same folds, with the same time on one core.

``python -m benchmarks.hippocampus DATASET_DIR [--networks ours DynUNet UNETR] [--folds 0 1 2 3 4] [--minutes 14]
[--jobs 2] [--output-dir DIR] [--start-from DIR]``; DATASET_DIR is MSD's Task04. Each training is
``configs/train.json`` with ``configs/hippocampus.json`` on one thread, for as many steps as fit in ``--minutes``:
batch, augmentation, optimizer and schedule are the same for all. ``ours`` starts from the shipped brain weights as
that config does, ``scratch`` is the same network without them; MONAI's have no such weights. The score is that of
``configs/evaluate.json`` on the files' own voxels, of the weights after the last step: the held-out cases choose
nothing. A run that was interrupted goes on where it stopped; the minutes of that fold are then those since.
``--start-from`` another run's output folder trains each fold on from that fold's last weights there, with the rate's
schedule from its start; steps and minutes are those of this run.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from scipy.stats import wilcoxon

from bundle.machine import keep_freed_memory

EPOCHS = 10
TIMED_STEPS = 10
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
TASK = ["configs/train.json", "configs/hippocampus.json"]
EVALUATION = ["configs/inference.json", "configs/evaluate.json", "configs/hippocampus.json"]


def changes(name: str) -> dict[str, Any]:
    """Return what a network changes in ``configs/hippocampus.json``."""
    if name == "ours":
        return {}
    if name == "scratch":
        return {"init_checkpoint": None}
    return {
        "init_checkpoint": None,
        "network_def": RIVALS[name],
        "inferer": STOCK_INFERER,
        "validate#inferer#inferer": STOCK_INFERER,
        "engine": "torch",
        **({"window": WINDOW} if name == "UNETR" else {}),
    }


def seconds_per_step(name: str, dataset_dir: str, folder: Path) -> float:
    """Return the processor seconds of one training step on one thread, its samples included."""
    parser = ConfigParser()
    parser.read_config(TASK)
    parser.update({"dataset_dir": dataset_dir, "output_dir": str(folder), **changes(name)})
    parser.parse()
    samples, network, loss, optimizer = (
        parser.get_parsed_content(key) for key in ("train#dataset", "network", "train#loss", "optimizer")
    )
    size = parser["batch_size"]
    samples.source.channel_counts()  # so that loading is not timed
    started = 0.0
    for step in range(-2, TIMED_STEPS):
        if step == 0:
            started = time.process_time()
        batch = [samples[size * (step + 2) + place] for place in range(size)]
        image, label = (torch.stack([sample[key] for sample in batch]) for key in ("image", "label"))
        optimizer.zero_grad()
        loss(network(image), label).backward()
        optimizer.step()
    return (time.process_time() - started) / TIMED_STEPS


def epoch_lengths(options: argparse.Namespace) -> dict[str, int]:
    """Return the steps of an epoch for each network, measured once for an output folder."""
    path = options.output_dir / f"steps_{options.minutes:g}_minutes.json"
    lengths = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    torch.set_num_threads(1)
    keep_freed_memory()
    for name in options.networks:
        if name not in lengths:
            seconds = seconds_per_step(name, options.dataset_dir, options.output_dir / "timing")
            lengths[name] = max(1, round(options.minutes * 60 / seconds / EPOCHS))
            print(f"{name}: {seconds:.2f} s a step, {EPOCHS * lengths[name]} steps", flush=True)
            path.write_text(json.dumps(lengths, indent=2) + "\n", encoding="utf-8")
    return lengths


def run_bundle(files: list[str], log: Path, **ids: object) -> float:
    """Run a config on one thread in a process of its own; its output goes to ``log``.

    Returns:
        The processor seconds that it used.

    Raises:
        RuntimeError: when it fails.
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
        raise RuntimeError(f"{log}: the run failed with exit code {process.returncode}.")
    return usage.ru_utime + usage.ru_stime


def score_fold(name: str, fold: int, epoch_length: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and score one fold, unless it was done before.

    Returns:
        ``minutes`` of processor time that the training took, and ``dice`` of each case by structure.
    """
    folder = options.output_dir / name / f"fold{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    change = folder / "changes.json"
    start: dict[str, Any] = {}
    if options.start_from:
        weights = options.start_from / name / f"fold{fold}" / "training" / "model.pt"
        start = {"init_checkpoint": str(weights.resolve()), "init_partial": False}
    change.write_text(json.dumps({**changes(name), **start}, indent=2) + "\n", encoding="utf-8")
    common = {"dataset_dir": options.dataset_dir, "fold": fold}
    used, scores = folder / "minutes.txt", folder / "evaluation" / "scores.csv"
    if not used.exists():
        seconds = run_bundle(
            [*TASK, str(change)],
            folder / "train.log",
            output_dir=folder / "training",
            max_epochs=EPOCHS,
            val_interval=EPOCHS,
            epoch_length=epoch_length,
            **common,
        )
        used.write_text(f"{seconds / 60:.2f}\n", encoding="utf-8")
    if not scores.exists():
        run_bundle(
            [*EVALUATION, str(change)],
            folder / "evaluate.log",
            output_dir=folder / "evaluation",
            overwrite=True,
            checkpoint=folder / "training" / "model.pt",
            datalist="@fold_items",
            **common,
        )
    dice: dict[str, dict[str, float]] = {}
    with open(scores, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            dice.setdefault(row["structure"], {})[row["case"]] = float(row["dice"])
    minutes = float(used.read_text(encoding="utf-8"))
    means = ", ".join(f"{structure} {np.mean([*cases.values()]):.4f}" for structure, cases in dice.items())
    print(f"{name} fold {fold}: {means}, {minutes:.1f} minutes", flush=True)
    return {"minutes": minutes, "dice": dice}


def summarise(results: dict[tuple[str, int], dict[str, Any]], lengths: dict[str, int]) -> list[dict[str, Any]]:
    """Return a record for each network, all folds together: Dice by structure, and the test against the first."""
    minutes: dict[str, list[float]] = {}
    cases: dict[str, dict[str, dict[str, float]]] = {}
    for (name, _), result in results.items():
        minutes.setdefault(name, []).append(result["minutes"])
        for structure, dice in result["dice"].items():
            cases.setdefault(name, {}).setdefault(structure, {}).update(dice)
    records: list[dict[str, Any]] = []
    reference: dict[str, float] = {}
    for name, structures in cases.items():
        by_case = zip(*(dice.values() for dice in structures.values()), strict=True)
        own = dict(zip(next(iter(structures.values())), (float(np.mean(values)) for values in by_case), strict=True))
        reference = reference or own
        difference = np.array([own[case] - reference[case] for case in own])
        records.append(
            {
                "network": name,
                "cases": len(own),
                "dice": {structure: float(np.mean([*dice.values()])) for structure, dice in structures.items()},
                "mean_dice": float(np.mean([*own.values()])),
                "standard_error": float(np.std([*own.values()], ddof=1) / len(own) ** 0.5),
                "difference": float(difference.mean()),
                "wilcoxon_p": float(wilcoxon(difference).pvalue) if difference.any() else None,
                "steps": EPOCHS * lengths[name],
                "minutes_of_a_fold": float(np.median(minutes[name])),
            }
        )
    return records


def table(records: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table, a network a line."""
    structures = list(records[0]["dice"])
    heads = ["network", "cases", *structures, "mean", "against the first", "steps", "minutes a fold"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in records:
        p = row["wilcoxon_p"]
        against = "" if p is None else f"{row['difference']:+.4f} (p {p:.1g})"
        dice = [f"{row['dice'][structure]:.4f}" for structure in structures]
        mean = f"{row['mean_dice']:.4f} ± {row['standard_error']:.4f}"
        cells = [row["network"], str(row["cases"]), *dice, mean, against, str(row["steps"])]
        lines.append("| " + " | ".join([*cells, f"{row['minutes_of_a_fold']:.1f}"]) + " |")
    return lines


def main() -> None:
    """Print a line for each fold and a table of the networks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("dataset_dir")
    parser.add_argument(
        "--networks", nargs="+", default=["ours", "DynUNet", "UNETR"], choices=["ours", "scratch", *RIVALS]
    )
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--minutes", type=float, default=14, help="of one core for each training")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, each on one core")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/hippocampus_benchmark"))
    parser.add_argument("--start-from", type=Path, metavar="DIR", help="output folder of the run whose folds go on")
    options = parser.parse_args()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    lengths = epoch_lengths(options)
    tasks = [(name, fold) for fold, name in product(options.folds, options.networks)]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda task: score_fold(*task, lengths[task[0]], options), tasks))
    records = summarise(dict(zip(tasks, found, strict=True)), lengths)
    (options.output_dir / "results.json").write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    print("\n" + "\n".join(table(records)))


if __name__ == "__main__":
    main()
