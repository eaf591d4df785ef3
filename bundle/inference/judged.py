"""What a network predicts of its result while windows go through it: one value for each group of structures.

Each window gives a prediction, and counts by the voxels that it gives to the structures of the group: one that holds
no hippocampus says nothing of it. Mirror images count like the others
(``tests/bundle/inference/test_judged.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bundle.engines.head import Features
from bundle.inference.logits import Logits
from bundle.labels import Label
from bundle.model.quality import group_channels
from bundle.results.quality import Quality

LEAST_WEIGHT = 1e-3
"""Voxels; windows that hold nothing of a group count alike where none does."""


class Judged:
    """A network as a function of windows that keeps what the network predicts.

    Args:
        network: maps windows (B, C, ...) to logits, or features, and predictions by ``forward_with_outputs``.
        groups: codes of the structures of each group, by its name.
        table: the structures.
        several: whether there is more than one window.
    """

    def __init__(
        self, network: Any, groups: Mapping[str, Sequence[int]], table: Sequence[Label], several: bool
    ) -> None:
        self.network = network
        self.head = network.head if isinstance(network, Features) else None
        self.groups = groups
        self.members = group_channels(groups, table).double()  # (groups, classes)
        self.several = several
        self.clear()

    def clear(self) -> None:
        """Forget what was predicted."""
        self._sums = torch.zeros(len(self.groups), dtype=torch.float64)
        self._weights = torch.zeros(len(self.groups), dtype=torch.float64)

    def __call__(self, windows: Tensor) -> Tensor:
        """Map windows (B, C, X, Y, Z) to what the network maps them to."""
        values: Tensor
        values, predicted = self.network.forward_with_outputs(windows)
        weights = torch.ones(predicted.shape, dtype=torch.float64)
        if self.several:
            winners = [Logits(one, self.head).winners().flatten().cpu() for one in values]
            counts = torch.stack([torch.bincount(row, minlength=len(self.members[0])) for row in winners]).double()
            weights = counts @ self.members.T + LEAST_WEIGHT
        self._sums += (predicted.double().cpu() * weights).sum(dim=0)
        self._weights += weights.sum(dim=0)
        return values

    def quality(self) -> Quality:
        """Return the prediction of each group."""
        return Quality(self.groups, (self._sums / self._weights).tolist())


def judged(
    network: Any, groups: Mapping[str, Sequence[int]] | None, table: Sequence[Label], several: bool
) -> Judged | None:
    """Return a network that keeps its predictions, ``None`` where it makes none of these groups."""
    outputs = getattr(network, "num_outputs", 0) if hasattr(network, "forward_with_outputs") else 0
    return Judged(network, groups, table, several) if groups and outputs == len(groups) else None
