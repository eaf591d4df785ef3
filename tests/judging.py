"""The folder of a tiny model of the brain's structures that predicts the Dice of its results: of no use, in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from bundle.io import write_labels
from bundle.labels import read_labels
from bundle.model import build_network, read_model
from bundle.model.write import write_weights
from networks import TransformerUNet
from tests.bundle.training.tiny_training import NETWORK
from tests.conftest import ROOT

GROUPS = json.loads((ROOT / "configs" / "quality.json").read_text())["quality_groups"]
OUTPUTS = {"num_outputs": len(GROUPS), "global_pool": "map", "bounded_outputs": True}
DATA = {"name": "maps", "cases": 1, "sha256": "0" * 12, "modality": "label maps"}
QUALITY = {"groups": GROUPS, "trunk": "0" * 64, "data": DATA, "steps": 0, "scores": None}


def write_brain_folder(
    folder: Path, seed: int = 0, judging: bool = True, spread: float = 3.0, **changes: object
) -> Path:
    """Write a model's folder and return it.

    Args:
        folder: the folder.
        seed: of the weights.
        judging: whether it predicts the Dice of its results.
        spread: standard deviation of the weights that do so: predictions from 0 to 1.
        changes: fields of ``model.json``.
    """
    content = json.loads((ROOT / "models" / "model.json").read_text())
    definition = {"in_channels": 1, "out_channels": 33, **NETWORK, **(OUTPUTS if judging else {})}
    torch.manual_seed(seed)
    network = TransformerUNet(**definition)
    if judging:
        torch.nn.init.normal_(network.scan_head.linear.weight, std=spread)
    content |= {"task": "made", "pixdim": [6.0] * 3, "roi_size": [32, 40, 32], "scores": None, "weights": {}}
    content["flags_left_out"] = []
    content["network_def"] = {"_target_": "networks.TransformerUNet", **definition}
    content.pop("quality", None)
    if judging:
        content["quality"] = QUALITY
    content |= changes
    folder.mkdir(parents=True, exist_ok=True)
    write_labels(read_labels(), folder / "labels.tsv")
    write_weights(network.state_dict(), folder / "model.pt", content)
    return folder


def network_of(folder: Path) -> TransformerUNet:
    """Return the network of such a folder in evaluation mode."""
    model = read_model(folder)
    network = build_network(model)
    network.load_state_dict(torch.load(model.weights, weights_only=True))
    return network.eval().requires_grad_(False)
