"""What a training of a network's outputs for the scan needs beside the brain's: they learn the Dice of its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.metrics import Metric
from monai.inferers import Inferer
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

from bundle.errors import InputError
from bundle.io.weights import HEAD, read_weights
from bundle.model.folder import MODEL_FILE, Model
from bundle.model.network import NETWORKS
from bundle.model.quality import QualityGroups

TRUNK = "networks.TransformerUNet"
"""The network that has tokens and outputs for the scan."""


def judging_definition(trunk: Model, groups: QualityGroups) -> dict[str, Any]:
    """Return the definition of a model's network with an output for each group.

    Raises:
        InputError: when it is a network that has no such outputs.
    """
    definition = dict(trunk.content["network_def"] or {})
    if definition.get("_target_") != TRUNK:
        found = f"found the network {definition.get('_target_')}"
        raise InputError(trunk.folder / MODEL_FILE, found, f"{TRUNK} is wanted, which has outputs for the scan")
    return {**definition, "num_outputs": len(groups), "global_pool": "map", "bounded_outputs": True}


def judging_network(trunk: Model, groups: QualityGroups, seed: int = 0) -> nn.Module:
    """Return the network of a model with an output for each group: its own weights, frozen, and a fresh head.

    Args:
        trunk: the model; outputs that it has already are drawn anew.
        groups: codes of the structures of each group, by its name.
        seed: of the head's first weights.

    Raises:
        InputError: when the model's network has no such outputs.
        WeightsError: when the weights cannot be read.
    """
    definition = judging_definition(trunk, groups)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = NETWORKS[definition.pop("_target_")](**{**definition, "out_channels": len(trunk.table)})
    own = {name: value for name, value in network.state_dict().items() if name.startswith(HEAD)}
    stored = {name: value for name, value in read_weights(trunk.weights).items() if not name.startswith(HEAD)}
    network.load_state_dict({**stored, **own})
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(HEAD))
    return network


class OutputsInferer(Inferer):
    """From tokens (B, N, C) to a network's outputs for the scan, (B, num_outputs)."""

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Return the outputs."""
        found: Tensor = network.outputs_of(inputs)  # type: ignore[attr-defined]
        return found


class KnownShareLoss(nn.Module):
    """Binary cross-entropy of shares, 0 to 1, where they are known: its least is at the mean of what is to be expected.

    Shape: (B, G) twice -> (); NaN stands for a share that is not known.
    """

    def forward(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Return the mean over what is known, 0 where nothing is."""
        known = torch.isfinite(wanted)
        losses = functional.binary_cross_entropy(found[known], wanted[known].to(found.dtype), reduction="sum")
        return losses / known.sum().clamp(min=1)


class _OverKnown(Metric):
    """A metric of all pairs of found and known shares that were seen."""

    def reset(self) -> None:
        """Forget all pairs."""
        self.pairs: list[Tensor] = []

    def update(self, output: Sequence[Any]) -> None:
        """Take outputs and shares, lists of (G,) or batches (B, G)."""
        found, wanted = (
            torch.as_tensor(part if isinstance(part, Tensor) else torch.stack(list(part))) for part in output
        )
        known = torch.isfinite(wanted)
        self.pairs.append(torch.stack([found[known], wanted[known]]).detach().double().cpu())

    def compute(self) -> float:
        """Return the metric."""
        raise NotImplementedError


class RankCorrelation(_OverKnown):
    """Spearman's rank correlation; 0 where it is not defined."""

    def compute(self) -> float:
        """Return it, -1 to 1."""
        found, wanted = torch.cat(self.pairs, dim=1).numpy()
        value = float(spearmanr(found, wanted).statistic) if len(set(found)) > 1 and len(set(wanted)) > 1 else 0.0
        return value


class MeanDeviation(_OverKnown):
    """Mean absolute difference."""

    def compute(self) -> float:
        """Return it, 0 to 1."""
        found, wanted = torch.cat(self.pairs, dim=1)
        return float((found - wanted).abs().mean())
