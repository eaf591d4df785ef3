"""Put trained weights in place: ``python -m scripts.release_weights RUN_MODEL --steps N --data TEXT --scores FILE``.

Writes model.pt (a plain state dict), labels.tsv and model.json, which says what the weights are of and where they come
from, into a folder: ``--to models/hippocampus`` releases the hippocampus model. What nobody says anew is taken from the
folder of RUN_MODEL, where that is a model's, else from the folder that is replaced; regions of structures, of which a
training knows none, from either.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.command import ROOT, make_parser, run_program

if TYPE_CHECKING:
    from bundle.labels import Label


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("release_weights", __doc__)
    parser.add_argument("model", type=Path, help="state dict that a training wrote")
    parser.add_argument("--to", type=Path, default=ROOT / "models", metavar="FOLDER", help="default: models")
    parser.add_argument("--steps", required=True, help="training steps, by stage")
    parser.add_argument("--data", required=True, help="what the weights were trained on")
    parser.add_argument("--licence", help="licence of the weights (default: what the folder says)")
    parser.add_argument("--scores", type=Path, required=True, help="JSON that a benchmark wrote")
    parser.add_argument("--overwrite", action="store_true", help="replace weights that are there")
    return parser.parse_args(arguments)


def read_scores(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: when it is none.
        OSError: when it cannot be read.
    """
    from bundle.errors import InputError

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, f"cannot be read as JSON ({error})", "what a benchmark wrote is wanted") from error


def with_regions(table: Sequence[Label], folder: Path) -> list[Label]:
    """Return a table whose structures without a region have that of their code and name in an earlier release."""
    from bundle.labels import read_labels
    from bundle.model import LABEL_TABLE

    path = folder / LABEL_TABLE
    known = {(label.code, label.name): label.region for label in read_labels(path)} if path.is_file() else {}
    return [replace(label, region=label.region or known.get((label.code, label.name), "")) for label in table]


def release(options: argparse.Namespace) -> Path:
    """Write weights, label table and description, which belong together, and return the weights' file.

    Raises:
        ExistsError: when one of them exists and is not to be overwritten.
        WeightsError: when the weights do not fit the network of the model.
        InputError: when the scores are no JSON, or there is no description of such a model.
        OSError: when a file cannot be read or written.
    """
    import torch

    from bundle.io import load_weights, write_labels
    from bundle.io.whole import whole_set
    from bundle.model import LABEL_TABLE, MODEL_FILE, WEIGHTS, build_network, find_model
    from bundle.model.write import PACKAGES, model_text
    from bundle.provenance import sha256, versions

    scores = read_scores(options.scores)
    source = options.model.parent if (options.model.parent / MODEL_FILE).is_file() else options.to
    model = find_model(source, options.model)
    network = load_weights(build_network(model), options.model)
    targets = [options.to / name for name in (WEIGHTS, LABEL_TABLE, MODEL_FILE)]
    table = with_regions(model.table, options.to)
    with whole_set(targets, options.overwrite) as (weights, label_table, description):
        torch.save(network.state_dict(), weights)
        write_labels(table, label_table)
        content = {
            **model.content,
            "weights": {WEIGHTS: {"sha256": sha256(weights), "bytes": weights.stat().st_size}},
            "parameters": sum(p.numel() for p in network.parameters()),
            "licence": options.licence or model.content["licence"],
            "data": options.data,
            "training": {
                **model.content["training"],
                "steps": options.steps,
                "date": datetime.now(timezone.utc).date().isoformat(),
            },
            "versions": versions(PACKAGES),
            "scores": scores,
        }
        description.write_text(model_text(content), encoding="utf-8")
    return Path(targets[0])


def run(options: argparse.Namespace) -> int:
    """Release, and say what was written."""
    from bundle.provenance import sha256

    target = release(options)
    print(f"{target}  {target.stat().st_size / 1e6:.1f} MB  sha256 {sha256(target)[:16]}...")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
