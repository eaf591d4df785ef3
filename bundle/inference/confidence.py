"""How sure the network was of each structure: by how much the most likely class exceeds the second.

Measured on the network's grid, over the voxels that carry a structure's label, from the probabilities that the label
map is made from (``tests/bundle/inference/test_confidence.py``). No calibrated probability: a network can be sure and
wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from torch import Tensor

from bundle.inference.streamed import Notes, notes_of
from bundle.inference.winners import winners_of
from bundle.labels import DEFAULT_TABLE, read_labels
from bundle.results.record import confidence_key

VOXELS = 1 << 14
"""Voxels whose margins are taken together: the logits of the labelled ones stay in the processor's cache."""


def voxel_parts(logits: Tensor, voxels: int) -> Iterator[Tensor]:
    """Yield the logits of voxels that are looked at together, shape (classes, K), of planes (classes, X, Y, Z)."""
    if logits.is_contiguous():
        yield from logits.flatten(1).split(voxels, dim=1)  # views
        return
    planes = max(1, voxels // max(1, logits.shape[2] * logits.shape[3]))
    for slab in logits.split(planes, dim=1):
        yield from slab.flatten(1).split(max(1, voxels), dim=1)


class Margins:
    """Sums of the margins of each class, for the logits of a grid that come piece by piece.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int) -> None:
        self.sums, self.counts = torch.zeros(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)

    def add(self, logits: Tensor, slab_voxels: int = VOXELS) -> None:
        """Add voxels by their logits, shape (classes, X, Y, Z), unchanged, so many at a time."""
        start, classes = 0, winners_of(logits).flatten()
        for flat in voxel_parts(logits, slab_voxels):  # (classes, K)
            part = classes[start : start + flat.shape[1]]
            start += flat.shape[1]
            labelled = part.nonzero()[:, 0]
            winner = part[labelled].long()
            odds = flat.index_select(1, labelled).float()
            odds = odds.sub_(odds.gather(0, winner[None])).exp_()
            total = odds.sum(dim=0)
            second = odds.scatter_(0, winner[None], 0.0).amax(dim=0)
            self.count(winner, ((1 - second) / total).nan_to_num_(nan=0.0))

    def count(self, winners: Tensor, margins: Tensor, sign: int = 1) -> None:
        """Add voxels by winner and margin, shape (K,) both; with a ``sign`` of -1 take them away."""
        winners, margins = winners.cpu(), margins.double().cpu()
        self.sums += sign * torch.bincount(winners, weights=margins, minlength=len(self.sums))
        self.counts += sign * torch.bincount(winners, minlength=len(self.sums))

    def means(self) -> dict[int, float]:
        """Return the mean of each class but the background, class 0; those that win nowhere are left out."""
        return {
            channel: float(self.sums[channel] / self.counts[channel])
            for channel in range(1, len(self.sums))
            if self.counts[channel]
        }


def mean_margins(logits: Tensor, slab_voxels: int = VOXELS) -> dict[int, float]:
    """Return the mean margin of each class over the voxels where it wins, background left out.

    The margin of a voxel is its largest probability minus the second largest: 0 for a toss-up, 1 for certainty. A class
    that was forbidden (minus infinity) has probability 0; a voxel with a NaN has the margin 0.

    Args:
        logits: shape (classes, X, Y, Z), unchanged; the background is class 0.
        slab_voxels: voxels looked at together.

    Returns:
        0 to 1 by class, classes that win nowhere left out.
    """
    margins = Margins(len(logits))
    margins.add(logits, slab_voxels)
    return margins.means()


class MeasureConfidenced(MapTransform):
    """Put ``<key>_confidence`` beside each key: the mean margin of each structure by code, see :func:`mean_margins`.

    Args:
        keys: logits, shape (classes, X, Y, Z), as the label map is made from them, unchanged; or a streamed result.
        label_table: path of the label table.
    """

    def __init__(self, keys: KeysCollection, label_table: str | Path = DEFAULT_TABLE) -> None:
        super().__init__(keys)
        self.table = read_labels(label_table)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the margins."""
        result = dict(data)
        for key in list(self.key_iterator(result)):
            notes = notes_of(result[key])
            if notes is None:
                with torch.inference_mode():
                    notes = Notes(confidence=mean_margins(result[key].as_subclass(torch.Tensor)))
            result[confidence_key(key)] = notes.by_code("confidence", self.table)
        return result
