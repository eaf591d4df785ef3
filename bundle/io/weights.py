"""Load a checkpoint into a network, with errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bundle.errors import WeightsError
from bundle.provenance import sha256

MANIFEST = "manifest.json"
"""Lies beside weights that were released, and says which file it is of and that file's SHA-256."""
RELEASED_WANTED = "the released file (fetch it again), or another folder for weights of your own, is wanted"


def read_checkpoint(path: str | Path) -> Any:
    """Return what ``torch.save`` wrote, on the CPU; no code in it is run (``weights_only=True``).

    Released weights are read only if they are those that their manifest names, see ``check_manifest``.

    Raises:
        WeightsError: when the file is missing or something else.
    """
    if not Path(path).is_file():
        raise WeightsError(path, "not found", "a checkpoint is wanted", "missing")
    check_manifest(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises is not bounded
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(path, f"cannot be read as a checkpoint ({reason})") from error


def check_manifest(path: str | Path) -> None:
    """Compare a checkpoint with the manifest beside it, where there is one of this file.

    Raises:
        WeightsError: when the manifest cannot be read, or the checkpoint has another SHA-256.
    """
    manifest = Path(path).with_name(MANIFEST)
    if not manifest.is_file():
        return
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = f"cannot be read as JSON ({error})"
        raise WeightsError(manifest, found, "the manifest of the weights is wanted") from error
    if not isinstance(content, dict) or content.get("file") != Path(path).name or "sha256" not in content:
        return
    found = sha256(path)
    if found != content["sha256"]:
        reason = f"found SHA-256 {found[:16]}..., not the {str(content['sha256'])[:16]}... of {MANIFEST} beside it"
        raise WeightsError(path, reason, RELEASED_WANTED)


def read_weights(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    """Return the plain state dict of a file, see ``read_checkpoint``.

    Raises:
        WeightsError: when the file is missing or no state dict.
    """
    state = read_checkpoint(checkpoint)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(checkpoint, "holds no state dict", "a mapping of names to tensors is wanted")
    return state


def load_weights(network: nn.Module, checkpoint: str | Path) -> nn.Module:
    """Load a plain state dict strictly and return the network in evaluation mode.

    Args:
        network: the network that the weights belong to.
        checkpoint: file with a state dict, see ``read_weights``.

    Raises:
        WeightsError: when the file is missing, no state dict, or of another network.
    """
    state = read_weights(checkpoint)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(checkpoint, f"belongs to another network ({reason})") from error
    return network.eval()
