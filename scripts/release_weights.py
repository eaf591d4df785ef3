"""Put trained weights in place: ``python -m scripts.release_weights RUN_MODEL --steps N --data TEXT --scores FILE``.

Writes the ``checkpoint`` of a config (a plain state dict) and manifest.json beside it, which says where the weights
come from. ``--config`` adds overlays: ``--config configs/hippocampus.json`` releases the hippocampus model.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bundle.provenance import sha256, versions

ROOT = Path(__file__).resolve().parents[1]
INFERENCE = "configs/inference.json"
PACKAGES = ("torch", "monai", "numpy", "pytorch-ignite")


def release(options: argparse.Namespace) -> Path:
    """Write weights and manifest, and return the weights' file.

    Raises:
        OSError: when a file cannot be read or written, or is there already and not to be overwritten.
        ValueError: when the weights do not fit the config's network, or the scores are no JSON.
    """
    from monai.bundle import ConfigParser

    from bundle.io import load_weights
    from bundle.training.checkpoints import save_whole

    parser = ConfigParser()
    parser.read_config([str(ROOT / INFERENCE), *options.config])
    parser["bundle_root"] = str(ROOT)
    target = Path(parser.get_parsed_content("checkpoint"))
    if target.exists() and not options.overwrite:
        raise FileExistsError(f"{target}: exists; --overwrite replaces it.")
    definition: dict[str, Any] = parser["network_def"]
    network = load_weights(parser.get_parsed_content("network_def"), options.model)
    scores = json.loads(options.scores.read_text(encoding="utf-8"))
    save_whole(network.state_dict(), target)
    manifest = {
        "file": target.name,
        "sha256": sha256(target),
        "bytes": target.stat().st_size,
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
    partial = target.with_name(".manifest.json.partial")
    partial.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, target.with_name("manifest.json"))
    return target


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release_weights", description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="state dict that a training wrote")
    parser.add_argument("--config", action="append", default=[], help="overlay over configs/inference.json")
    parser.add_argument("--steps", required=True, help="training steps, by stage")
    parser.add_argument("--data", required=True, help="what the weights were trained on")
    parser.add_argument("--licence", default="Apache-2.0", help="licence of the weights")
    parser.add_argument("--scores", type=Path, required=True, help="JSON that a benchmark wrote")
    parser.add_argument("--overwrite", action="store_true", help="replace weights that are there")
    options = parser.parse_args(arguments)
    try:
        target = release(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{target}  {target.stat().st_size / 1e6:.1f} MB  sha256 {sha256(target)[:16]}...")
    return 0


if __name__ == "__main__":
    sys.exit(main())
