"""Propose a training for a data set: ``python -m scripts.new_task DATASET --output my_task.json``.

Checks the data set, writes the few config ids that are special to it, each with its reason under ``plan``, and says how
much memory and time a training takes here. ``python -m scripts.train my_task.json`` trains.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from scripts.command import OWN_DATA, ROOT, make_parser, run_program

TIMED_STEPS = 3


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("new_task", __doc__)
    parser.add_argument("dataset", metavar="DATASET", help="the data set, in any layout of docs/own_data.md")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="the overlay to write, NAME.json")
    parser.add_argument("--task", metavar="NAME", help="what to call it (default: the name of FILE)")
    parser.add_argument("--no-timing", action="store_true", help="do not measure a step of the training")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    return parser.parse_args(arguments)


def time_step(ids: dict[str, Any], channels: int) -> float:
    """Return the seconds of a training step on this machine, forward and back, its samples left out."""
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_files(OWN_DATA))
    parser.update({**ids, "num_classes": channels, "bundle_root": str(ROOT)})
    network = parser.get_parsed_content("network_def").to(parser.get_parsed_content("device"))
    image = torch.rand(ids["batch_size"], 1, *ids["window"], device=next(network.parameters()).device)
    times = []
    for _ in range(TIMED_STEPS):
        started = time.perf_counter()
        network(image).square().mean().backward()
        times.append(time.perf_counter() - started)
    return min(times)


def run(options: argparse.Namespace) -> int:
    """Check, plan, write and explain; return the number of problems of the data set."""
    from bundle.datasets import check_dataset, compute_statistics, read_dataset
    from bundle.datasets.plan import plan_training
    from bundle.io.whole import refuse_existing, whole_file
    from bundle.machine import peak_memory
    from bundle.training.log import duration

    if not options.overwrite:
        refuse_existing([options.output])
    dataset = read_dataset(options.dataset)
    problems = check_dataset(dataset)
    for problem in problems:
        print(problem)
    if problems:
        return len(problems)
    task = options.task or options.output.stem
    plan = plan_training(dataset, compute_statistics(dataset), task)
    content: dict[str, Any] = {**plan.ids, "dataset_dir": str(Path(options.dataset).resolve())}
    reasons = dict(plan.reasons)
    if not options.no_timing:
        seconds = time_step(plan.ids, len(dataset.table))
        memory = peak_memory()
        shown = f"{memory / 2**30:.1f} GB" if memory else "unknown"
        reasons["time"] = f"{duration(seconds * plan.steps)} a fold here ({seconds:.2g} s a step), memory {shown}"
    with whole_file(options.output, options.overwrite) as unfinished:
        unfinished.write_text(json.dumps({**content, "plan": reasons}, indent=4) + "\n", encoding="utf-8")
    print(f"{options.dataset}: {len(dataset.cases)} cases, {', '.join(label.name for label in dataset.table[1:])}")
    for name, reason in reasons.items():
        value = f" {json.dumps(content[name])}" if name in content else ""
        print(f"{name}{value}: {reason}")
    print(f"{options.output}\npython -m scripts.train {options.output}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
