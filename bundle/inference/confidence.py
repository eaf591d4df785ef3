"""How sure the network was of each structure: by how much the most likely class exceeds the second.

Measured on the network's grid, over the voxels that carry a structure's label, from the probabilities that the label
map is made from (``tests/bundle/inference/test_confidence.py``). No calibrated probability: a network can be sure and
wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from torch import Tensor

from bundle.labels import DEFAULT_TABLE, read_labels
from bundle.results.record import confidence_key

SLAB_VOXELS = 500_000
"""Voxels looked at together; their labelled ones are copied, 33 numbers each."""


def mean_margins(logits: Tensor, slab_voxels: int = SLAB_VOXELS) -> dict[int, float]:
    """Return the mean margin of each class over the voxels where it wins, background left out.

    The margin of a voxel is its largest probability minus the second largest: 0 for a toss-up, 1 for certainty. A class
    that was forbidden (minus infinity) has probability 0; a voxel with a NaN has the margin 0.

    Args:
        logits: shape (classes, X, Y, Z), unchanged; the background is class 0.
        slab_voxels: voxels looked at together.

    Returns:
        0 to 1 by class, classes that win nowhere left out.
    """
    classes = len(logits)
    sums, counts = torch.zeros(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    planes = max(1, slab_voxels // max(1, logits.shape[2] * logits.shape[3]))
    for slab in logits.split(planes, dim=1):
        flat = slab.flatten(1)  # (classes, K)
        # A tenth of an argmax's time; NaN counts as labelled, and a tie as background, as in argmax.
        labelled = (~(flat[1:].amax(dim=0) <= flat[0])).nonzero()[:, 0]
        values = flat[:, labelled].float()
        largest, winner = values.max(dim=0, keepdim=True)
        odds = (values - largest).exp_()
        total = odds.sum(dim=0)
        second = odds.scatter_(0, winner, 0.0).amax(dim=0)
        margins = ((1 - second) / total).nan_to_num_(nan=0.0).double().cpu()
        winners = winner[0].cpu()
        sums += torch.bincount(winners, weights=margins, minlength=classes)
        counts += torch.bincount(winners, minlength=classes)
    return {channel: float(sums[channel] / counts[channel]) for channel in range(1, classes) if counts[channel]}


class MeasureConfidenced(MapTransform):
    """Put ``<key>_confidence`` beside each key: the mean margin of each structure by code, see :func:`mean_margins`.

    Args:
        keys: logits, shape (classes, X, Y, Z), as the label map is made from them; unchanged.
        label_table: path of the label table.
    """

    def __init__(self, keys: KeysCollection, label_table: str | Path = DEFAULT_TABLE) -> None:
        super().__init__(keys)
        self.table = read_labels(label_table)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the margins."""
        result = dict(data)
        for key in list(self.key_iterator(result)):
            with torch.inference_mode():
                margins = mean_margins(result[key].as_subclass(torch.Tensor))
            result[confidence_key(key)] = {self.table[channel].code: margin for channel, margin in margins.items()}
        return result
