"""Load a checkpoint into a network, with errors that say what to do."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn

from bundle.errors import WeightsError


def read_weights(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    """Return the plain state dict of a file; no code in it is run (``weights_only=True``).

    Raises:
        WeightsError: when the file is missing or no state dict.
    """
    if not Path(checkpoint).is_file():
        raise WeightsError(checkpoint, "not found", "a checkpoint is wanted", "missing")
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(checkpoint, f"cannot be read as a state dict ({reason})") from error
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
