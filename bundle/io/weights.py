"""Load a checkpoint into a network, with errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bundle.errors import WeightsError
from bundle.provenance import sha256

DESCRIPTION = "model.json"
"""Lies beside weights in the folder of a model, see ``bundle.model``, and says which SHA-256 each of its files has."""
HEAD = "scan_head."
"""Names of the parameters of outputs for the scan start so: they judge what the others make of it."""
STATED_WANTED = "the file that was written with it, or another folder for weights of your own, is wanted"


def read_checkpoint(path: str | Path) -> Any:
    """Return what ``torch.save`` wrote, on the CPU; no code in it is run (``weights_only=True``).

    Weights of a model's folder are read only if they are those that it names, see ``check_stated``.

    Raises:
        WeightsError: when the file is missing or something else.
    """
    if not Path(path).is_file():
        raise WeightsError(path, "not found", "a checkpoint is wanted", "missing")
    check_stated(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises is not bounded
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(path, f"cannot be read as a checkpoint ({reason})") from error


def check_stated(path: str | Path) -> None:
    """Compare a checkpoint with what the ``model.json`` beside it says of it, where it does.

    Raises:
        WeightsError: when ``model.json`` cannot be read, or the checkpoint has another SHA-256.
    """
    description = Path(path).with_name(DESCRIPTION)
    if not description.is_file():
        return
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = f"cannot be read as JSON ({error})"
        raise WeightsError(description, found, "the description of the weights is wanted") from error
    try:
        stated = content["weights"][Path(path).name]["sha256"]
    except (KeyError, TypeError):  # it speaks of other files
        return
    found = sha256(path)
    if found != stated:
        reason = f"found SHA-256 {found[:16]}..., not the {str(stated)[:16]}... of {DESCRIPTION} beside it"
        raise WeightsError(path, reason, STATED_WANTED)


def read_weights(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    """Return the plain state dict of a file, see ``read_checkpoint``.

    Raises:
        WeightsError: when the file is missing or no state dict.
    """
    state = read_checkpoint(checkpoint)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(checkpoint, "holds no state dict", "a mapping of names to tensors is wanted")
    return state


def fitting_heads(state: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Return a state dict without outputs for the scan, where a network has none."""
    if any(name.startswith(HEAD) for name in network.state_dict()):
        return state
    return {name: value for name, value in state.items() if not name.startswith(HEAD)}


def load_weights(network: nn.Module, checkpoint: str | Path) -> nn.Module:
    """Load a plain state dict strictly and return the network in evaluation mode.

    Outputs for the scan that the file has and the network has not are left out.

    Args:
        network: the network that the weights belong to.
        checkpoint: file with a state dict, see ``read_weights``.

    Raises:
        WeightsError: when the file is missing, no state dict, or of another network.
    """
    state = fitting_heads(read_weights(checkpoint), network)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(checkpoint, f"belongs to another network ({reason})") from error
    return network.eval()
