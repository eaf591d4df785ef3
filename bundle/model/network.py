"""The network that a ``model.json`` describes, of the bundle's own classes alone: it may come from anywhere."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

import networks
from bundle.errors import BundleWarning, InputError
from bundle.model.ensemble import Ensemble
from bundle.model.folder import MODEL_FILE, Model
from bundle.running import check_tensorrt

NETWORKS = {f"networks.{name}": getattr(networks, name) for name in ("TransformerUNet", "UNETR")}
"""Those that map images to logits."""
UNMARKED = ("use_combined_linear", "use_flash_attention", "out_channels", "dropout_rate")
"""Arguments that change no result, or whose weights do not fit otherwise."""


def build_network(model: Model, **changes: Any) -> nn.Module:
    """Return the network of a model, its weights not yet loaded.

    Warns with a ``BundleWarning`` of one line of changes that compute something else with the same weights, such as
    another kind of attention.

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
    if model.own and (others := _differences(NETWORKS[target], definition, changes)):
        warnings.warn(
            f"network_def: {', '.join(others)}, the model {model.task} is of another", BundleWarning, stacklevel=2
        )
    return network


def _differences(network: type[nn.Module], definition: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    """Return the changes that are not what a definition says, or the class where that says nothing, as text."""
    usual = {name: parameter.default for name, parameter in inspect.signature(network).parameters.items()}
    stated = {**usual, **definition}
    changed = {name: value for name, value in changes.items() if name not in UNMARKED}
    return [f"{name} {value}" for name, value in changed.items() if _plain(value) != _plain(stated.get(name))]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
