"""Ask whether five folds as one model are worth it: ``python -m benchmarks.ensemble DATASET_DIR [--steps 670]``.

DATASET_DIR is MSD's Task04 (``configs/hippocampus.json``). Every fifth case is put aside; five folds are trained on the
others by ``scripts.train``, and each of them, then all five as one (``--model FOLD_0 --model FOLD_1 ...``), segments
the cases put aside, which none has seen: the program prints Dice by structure, Wilcoxon's test of the five together
against each fold, and the seconds of the network. What was done before is not done again: ``--output-dir`` keeps it.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean

from benchmarks.measure import ROOT, make_parser, met_or_missed, positive, verdict, write_json

FOLDS = 5
STEPS_OF_AN_EPOCH = 67
TIME_BAR = 1.1
"""How much longer than its parts together the five may take."""


def put_aside(dataset_dir: Path, output_dir: Path) -> None:
    """Make two data sets of links: ``train``, and ``aside`` with every fifth case."""
    content = json.loads((dataset_dir / "dataset.json").read_text(encoding="utf-8"))
    pairs = content["training"]
    sets = {"aside": pairs[::FOLDS], "train": [pair for place, pair in enumerate(pairs) if place % FOLDS]}
    for name, chosen in sets.items():
        folder = output_dir / name
        for relative in (pair[key] for pair in chosen for key in ("image", "label")):
            link = folder / relative
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to((dataset_dir / relative).resolve())
        write_json({**content, "numTraining": len(chosen), "training": chosen}, folder / "dataset.json")


def program(name: str, log: Path, *arguments: object) -> None:
    """Run a program of ours; what it says goes to ``log``.

    Raises:
        ChildProcessError: when it fails.
    """
    with open(log, "w", encoding="utf-8") as file:
        command = [sys.executable, "-m", f"scripts.{name}", *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        raise ChildProcessError(f"{log}: the run failed with exit code {done.returncode}")


def train_fold(fold: int, steps: int, output_dir: Path) -> Path:
    """Train a fold, unless it was done before, and return its folder."""
    folder = output_dir / f"fold_{fold}"
    if not (folder / "done").exists():
        epochs = max(1, round(steps / STEPS_OF_AN_EPOCH))
        config = ROOT / "configs" / "hippocampus.json"
        ids = {"dataset_dir": output_dir / "train", "fold": fold, "max_epochs": epochs, "val_interval": epochs}
        ids |= {"epoch_length": STEPS_OF_AN_EPOCH, "output_dir": folder}
        program("train", output_dir / f"fold_{fold}.log", config, *(f"--{key}={value}" for key, value in ids.items()))
        (folder / "done").touch()
    return folder


def segment_aside(name: str, models: list[Path], output_dir: Path) -> tuple[dict[str, dict[str, float]], float]:
    """Segment and score the cases put aside.

    Returns:
        Dice by structure and case, and the seconds that the network took for all cases.
    """
    results, scores = output_dir / f"labels_{name}", output_dir / f"scores_{name}"
    chosen = [part for folder in models for part in ("--model", folder)]
    aside = output_dir / "aside"
    log = output_dir / f"{name}.log"
    program("segment", log, aside / "imagesTr", "--output-dir", results, "--overwrite", *chosen)
    table = ("--label-table", aside / "dataset.json")
    program("evaluate", log, results, aside / "labelsTr", "--output-dir", scores, "--overwrite", *table)
    dice: dict[str, dict[str, float]] = {}
    with open(scores / "scores.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            dice.setdefault(row["structure"], {})[row["case"]] = float(row["dice"])
    records = [json.loads(path.read_text(encoding="utf-8")) for path in results.glob("*/*_record.json")]
    return dice, sum(record["run"]["stages"]["network"]["seconds"] for record in records)


def print_table(found: dict[str, tuple[dict[str, dict[str, float]], float]]) -> None:
    """Print a line for each fold and for the five together, and the bars."""
    from scipy.stats import wilcoxon

    means = {
        name: {case: fmean(scores[case] for scores in dice.values()) for case in next(iter(dice.values()))}
        for name, (dice, _) in found.items()
    }
    together = means["together"]
    print("| model | " + " | ".join(found["together"][0]) + " | mean | the five against it | network, s |")
    print("|---" * (len(found["together"][0]) + 4) + "|")
    for name, (dice, seconds) in found.items():
        difference = [together[case] - means[name][case] for case in together]
        p = f"{fmean(difference):+.4f} (p {wilcoxon(difference).pvalue:.1g})" if any(difference) else ""
        cells = [*(f"{fmean(scores.values()):.4f}" for scores in dice.values()), f"{fmean(means[name].values()):.4f}"]
        print(f"| {name} | " + " | ".join([*cells, p, f"{seconds:.1f}"]) + " |")
    singles = [name for name in found if name != "together"]
    best = max(fmean(means[name].values()) for name in singles)
    print(f"{len(together)} cases that no fold has seen")
    print(verdict("mean Dice of the five together", fmean(together.values()), best))
    ratio = found["together"][1] / sum(found[name][1] for name in singles)
    print(f"network time of the five together: {ratio:.2f} of the five alone, bar <= {TIME_BAR} "
          f"{met_or_missed(ratio <= TIME_BAR)}")  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("--steps", type=positive, default=670, help="of each training (default: 670)")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/ensemble_benchmark"))
    return parser.parse_args()


def main() -> None:
    """Train what is not trained, and print the table."""
    options = parse_arguments()
    output_dir = options.output_dir.resolve()
    put_aside(options.dataset_dir, output_dir)
    folders = [train_fold(fold, options.steps, output_dir) for fold in range(FOLDS)]
    models = {folder.name: [folder] for folder in folders} | {"together": folders}
    print_table({name: segment_aside(name, chosen, output_dir) for name, chosen in models.items()})


if __name__ == "__main__":
    main()
