"""Cross-validate the hippocampus task: our network and MONAI's, on the same folds, with the same time on one core.

``python -m benchmarks.hippocampus DATASET_DIR [--networks ours DynUNet UNETR] [--folds 0 1 2 3 4] [--minutes 14]
[--jobs 2] [--output-dir DIR] [--start-from DIR]``; DATASET_DIR is MSD's Task04. Each training is
``configs/train.json`` with ``own_data.json`` and ``hippocampus.json`` on one thread, for as many steps as fit in
``--minutes``: batch, augmentation, optimizer and schedule are the same for all. ``ours`` starts from the shipped brain
weights as that config does, ``scratch`` is the same network without them; MONAI's have no such weights. The score is
that of ``configs/evaluate.json`` on the files' own voxels, of the weights after the last step: the held-out cases
choose nothing. A run that was interrupted goes on where it stopped; the minutes of that fold are then those since.
``--start-from`` another run's output folder trains each fold on from that fold's last weights there, with the rate's
schedule from its start; steps and minutes are those of this run.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from benchmarks.hippocampus_folds import EPOCHS, NETWORKS, Dice, Fold, score_fold, seconds_per_step
from benchmarks.measure import make_parser, positive, write_json


def epoch_lengths(networks: list[str], minutes: float, dataset_dir: str, output_dir: Path) -> dict[str, int]:
    """Return the steps of an epoch for each network, measured once for an output folder."""
    import torch

    from bundle.machine import keep_freed_memory

    path = output_dir / f"steps_{minutes:g}_minutes.json"
    lengths: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    torch.set_num_threads(1)
    keep_freed_memory()
    for network in networks:
        if network not in lengths:
            seconds = seconds_per_step(network, dataset_dir, output_dir / "timing")
            lengths[network] = max(1, round(minutes * 60 / seconds / EPOCHS))
            print(f"{network}: {seconds:.2f} s a step, {EPOCHS * lengths[network]} steps", flush=True)
            write_json(lengths, path)
    return lengths


def summarise(results: dict[Fold, tuple[float, Dice]], lengths: dict[str, int]) -> list[dict[str, Any]]:
    """Return a record for each network, all folds together: Dice by structure, and the test against the first."""
    from scipy.stats import wilcoxon

    minutes: dict[str, list[float]] = {}
    cases: dict[str, Dice] = {}
    for fold, (used, found) in results.items():
        minutes.setdefault(fold.network, []).append(used)
        for structure, dice in found.items():
            cases.setdefault(fold.network, {}).setdefault(structure, {}).update(dice)
    records: list[dict[str, Any]] = []
    reference: dict[str, float] = {}
    for network, structures in cases.items():
        own = {case: fmean(dice[case] for dice in structures.values()) for case in next(iter(structures.values()))}
        reference = reference or own
        difference = [own[case] - reference[case] for case in own]
        records.append(
            {
                "network": network,
                "cases": len(own),
                "dice": {structure: fmean(dice.values()) for structure, dice in structures.items()},
                "mean_dice": fmean(own.values()),
                "standard_error": stdev(own.values()) / len(own) ** 0.5,
                "difference": fmean(difference),
                "wilcoxon_p": float(wilcoxon(difference).pvalue) if any(difference) else None,
                "steps": EPOCHS * lengths[network],
                "minutes_of_a_fold": median(minutes[network]),
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


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("dataset_dir")
    parser.add_argument("--networks", nargs="+", default=["ours", "DynUNet", "UNETR"], choices=NETWORKS)
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--minutes", type=float, default=14, help="of one core for each training")
    parser.add_argument("--jobs", type=positive, default=2, help="trainings at a time, each on one core")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/hippocampus_benchmark"))
    parser.add_argument("--start-from", type=Path, metavar="DIR", help="output folder of the run whose folds go on")
    return parser.parse_args()


def main() -> None:
    """Print a line for each fold and a table of the networks."""
    options = parse_arguments()
    places = options.dataset_dir, options.output_dir
    folds = [Fold(name, fold, *places, options.start_from) for fold, name in product(options.folds, options.networks)]
    for path in (Path(options.dataset_dir), *filter(None, (fold.first_weights for fold in folds))):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
    options.output_dir.mkdir(parents=True, exist_ok=True)
    lengths = epoch_lengths(options.networks, options.minutes, *places)
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda fold: score_fold(fold, lengths[fold.network]), folds))
    records = summarise(dict(zip(folds, found, strict=True)), lengths)
    write_json(records, options.output_dir / "results.json")
    print("\n" + "\n".join(table(records)))


if __name__ == "__main__":
    main()
