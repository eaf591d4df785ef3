"""Voxels that nobody labelled count neither in the loss nor in the validation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.losses import DiceCELoss
from monai.transforms import MapTransform
from torch import Tensor

from bundle.label_groups import IGNORED_CHANNEL


class IgnoringDiceCELoss(DiceCELoss):
    """MONAI's ``DiceCELoss``, to which voxels of ``IGNORED_CHANNEL`` do not exist; without any it is the same.

    Takes the arguments of ``DiceCELoss``; ``to_onehot_y`` and ``softmax`` must be true.

    Shape: logits (B, C, X, Y, Z), channels (B, 1, X, Y, Z) -> ().
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dice.ignore_index = IGNORED_CHANNEL
        self.cross_entropy.ignore_index = IGNORED_CHANNEL

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss; 0 where no voxel counts."""
        if bool((target == IGNORED_CHANNEL).all()):
            return input.sum() * 0.0
        loss: Tensor = super().forward(input, target)
        return loss


class IgnoredToBackgroundd(MapTransform):
    """Set prediction and label to background where the label is ``IGNORED_CHANNEL``, as scores do.

    Args:
        keys: prediction and label, channels.
        label_key: the one that says where.
    """

    def __init__(self, keys: KeysCollection, label_key: str = "label") -> None:
        super().__init__(keys)
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with both changed."""
        result = dict(data)
        ignored = result[self.label_key] == IGNORED_CHANNEL
        for key in self.key_iterator(result):
            result[key] = torch.where(ignored, torch.zeros_like(result[key]), result[key])
        return result
