"""Put trained weights in place: ``python -m scripts.release_weights RUN_MODEL --steps N --data TEXT --scores FILE``.

Writes models/model.pt (a plain state dict) and models/manifest.json, which says where the weights come from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

MODELS = Path(__file__).resolve().parents[1] / "models"


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release_weights", description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="state dict that a training wrote")
    parser.add_argument("--steps", required=True, help="training steps, by stage")
    parser.add_argument("--data", required=True, help="what the weights were trained on")
    parser.add_argument("--pixdim", type=float, required=True, help="voxel size of the last stage, mm")
    parser.add_argument("--scores", type=Path, required=True, help="JSON written by benchmarks.anatomy")
    options = parser.parse_args(arguments)

    import torch

    from bundle.inference import load_weights
    from networks import TransformerUNet

    try:
        network = load_weights(TransformerUNet(), options.model)
        scores = json.loads(options.scores.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    target = MODELS / "model.pt"
    torch.save(network.state_dict(), target)
    manifest = {
        "file": target.name,
        "sha256": sha256(target),
        "bytes": target.stat().st_size,
        "network": "networks.TransformerUNet, default arguments",
        "parameters": sum(p.numel() for p in network.parameters()),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "data": options.data,
        "steps": options.steps,
        "pixdim": options.pixdim,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "monai", "numpy", "pytorch-ignite")},
        "scores": scores,
    }
    (MODELS / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    print(f"{target}  {manifest['bytes'] / 1e6:.1f} MB  sha256 {manifest['sha256'][:16]}...")
    return 0


if __name__ == "__main__":
    sys.exit(main())
