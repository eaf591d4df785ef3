"""Folders of models made by code, in seconds: a tiny network of three classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from bundle.io import write_labels
from bundle.labels import make_labels
from bundle.model.write import write_weights
from networks import TransformerUNet
from tests.bundle.training.tiny_training import NETWORK
from tests.conftest import ROOT
from tests.labelled import NAMES

CONTENT = json.loads((ROOT / "models/hippocampus/model.json").read_text())


def description(**changes: Any) -> dict[str, Any]:
    """Return the content of a ``model.json``; changes of ``labels`` go into them."""
    labels = {**CONTENT["labels"], "codes": list(NAMES), "names": list(NAMES.values())}
    content = {
        **CONTENT,
        "task": "made",
        "weights": {},
        "network_def": {"_target_": "networks.TransformerUNet", "in_channels": 1, "out_channels": 3, **NETWORK},
        "scores": None,
    }
    return {**content, **changes, "labels": {**labels, **changes.get("labels", {})}}


def write_folder(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Write a model's folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = description(**changes)
    names = dict(zip(content["labels"]["codes"], content["labels"]["names"], strict=True))
    write_labels(make_labels(names), folder / "labels.tsv")
    torch.manual_seed(seed)
    definition = {key: value for key, value in content["network_def"].items() if key != "_target_"}
    state = TransformerUNet(**definition).state_dict()
    write_weights(state, folder / "model.pt", content)
    return folder
