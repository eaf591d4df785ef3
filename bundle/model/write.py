"""Write the folder of a model; its files appear together."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bundle.io.whole import whole_file, whole_set
from bundle.model.folder import MODEL_FILE
from bundle.provenance import sha256

MODEL_VERSION = 1
PACKAGES = ("torch", "monai", "numpy", "pytorch-ignite")
"""Whose versions the weights may depend on."""
NUMBERS = re.compile(r"\[\s+((?:-?[\d.e+-]+,\s+)*-?[\d.e+-]+)\s+\]")


def model_text(content: Mapping[str, Any]) -> str:
    """Return a ``model.json``: indented JSON, lists of numbers in one line."""
    text = json.dumps(content, indent=2, allow_nan=False)
    return NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def write_description(content: Mapping[str, Any], folder: str | Path) -> None:
    """Write ``model.json`` alone, in place of an older one."""
    with whole_file(Path(folder) / MODEL_FILE, overwrite=True) as unfinished:
        unfinished.write_text(model_text(content), encoding="utf-8")


def write_weights(
    state: Mapping[str, torch.Tensor], path: str | Path, content: Mapping[str, Any], overwrite: bool = True
) -> dict[str, Any]:
    """Write a state dict and the ``model.json`` that says what it is of, and return what that says.

    Args:
        state: the weights.
        path: their file; ``model.json`` goes beside it.
        content: the description; the file is added to its ``weights``, those that are no longer there are left out.
        overwrite: replace both.

    Raises:
        ExistsError: when one of them exists and ``overwrite`` is false.
    """
    path = Path(path)
    with whole_set([path, path.with_name(MODEL_FILE)], overwrite) as (weights, description):
        torch.save(state, weights)
        others = {name: entry for name, entry in content["weights"].items() if path.with_name(name).is_file()}
        entry = {"sha256": sha256(weights), "bytes": weights.stat().st_size}
        written = {**content, "weights": dict(sorted({**others, path.name: entry}.items()))}
        description.write_text(model_text(written), encoding="utf-8")
    return written
