"""The network that a ``model.json`` describes, of the bundle's own classes alone: it may come from anywhere."""

from __future__ import annotations

from typing import Any

from torch import nn

import networks
from bundle.errors import InputError
from bundle.model.ensemble import Ensemble
from bundle.model.folder import MODEL_FILE, Model
from bundle.running import check_tensorrt

NETWORKS = {f"networks.{name}": getattr(networks, name) for name in ("TransformerUNet", "UNETR")}
"""Those that map images to logits."""


def build_network(model: Model, **changes: Any) -> nn.Module:
    """Return the network of a model, its weights not yet loaded.

    Args:
        model: the model; an ensemble gives a list of networks, ``torch.nn.ModuleList``.
        changes: arguments of the network's class that replace those of the folder.

    Raises:
        InputError: when the folder describes no network of this bundle, or arguments that it does not take.
        ExportError: when it is to be exported to TensorRT and there is no GPU.
    """
    check_tensorrt()
    if isinstance(model, Ensemble):
        return nn.ModuleList([build_network(member, **changes) for member in model.members])
    definition = dict(model.content["network_def"] or {})
    target = definition.pop("_target_", None)
    path = model.folder / MODEL_FILE
    if target not in NETWORKS:
        found = "describes no network of this bundle" if target is None else f"found the network {target}"
        wanted = f"one of {', '.join(NETWORKS)}, or a config with its own network_def, is wanted"
        raise InputError(path, found, wanted)
    try:
        network: nn.Module = NETWORKS[target](**{**definition, **changes})
    except (TypeError, ValueError) as error:
        found = f"found a network_def that {target} does not take ({error})"
        raise InputError(path, found, "a legal one is wanted") from error
    return network
