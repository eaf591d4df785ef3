"""Put trained weights in place: ``python -m scripts.release_weights RUN_MODEL --steps N --data TEXT --scores FILE``.

Writes the ``checkpoint`` of a config (a plain state dict) and manifest.json beside it, which says where the weights
come from. ``--config`` adds overlays: ``--config configs/hippocampus.json`` releases the hippocampus model.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from scripts.command import ROOT, make_parser, run_program

INFERENCE = "configs/inference.json"
PACKAGES = ("torch", "monai", "numpy", "pytorch-ignite")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("release_weights", __doc__)
    parser.add_argument("model", type=Path, help="state dict that a training wrote")
    parser.add_argument("--config", action="append", default=[], help="overlay over configs/inference.json")
    parser.add_argument("--steps", required=True, help="training steps, by stage")
    parser.add_argument("--data", required=True, help="what the weights were trained on")
    parser.add_argument("--licence", default="Apache-2.0", help="licence of the weights")
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


def release(options: argparse.Namespace) -> Path:
    """Write weights and manifest, which belong together, and return the weights' file.

    Raises:
        ExistsError: when one of them exists and is not to be overwritten.
        WeightsError: when the weights do not fit the config's network.
        InputError: when the scores are no JSON.
        OSError: when a file cannot be read or written.
    """
    import torch
    from monai.bundle import ConfigParser

    from bundle.io import load_weights
    from bundle.io.whole import whole_set
    from bundle.provenance import sha256, versions

    parser = ConfigParser()
    parser.read_config([str(ROOT / INFERENCE), *options.config])
    parser["bundle_root"] = str(ROOT)
    target = Path(parser.get_parsed_content("checkpoint"))
    with whole_set([target, target.with_name("manifest.json")], options.overwrite) as (weights, manifest):
        definition: dict[str, Any] = parser["network_def"]
        network = load_weights(parser.get_parsed_content("network_def"), options.model)
        scores = read_scores(options.scores)
        torch.save(network.state_dict(), weights)
        content = {
            "file": target.name,
            "sha256": sha256(weights),
            "bytes": weights.stat().st_size,
            "network": {**definition, "out_channels": parser.get_parsed_content("num_classes")},
            "parameters": sum(p.numel() for p in network.parameters()),
            "date": datetime.now(timezone.utc).date().isoformat(),
            "licence": options.licence,
            "data": options.data,
            "steps": options.steps,
            "pixdim": parser.get_parsed_content("pixdim"),
            "versions": versions(PACKAGES),
            "scores": scores,
        }
        manifest.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return target


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
