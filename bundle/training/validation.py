"""Validation data: real scans with labels where they are given, synthetic ones that training never sees otherwise."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey
from torch.utils.data import Dataset

from bundle.datasets.paired import whole_codes
from bundle.labels import DEFAULT_TABLE, check_trainable, read_labels, renamed_keywords
from bundle.synthesis import SyntheticBrainDataset

FIRST_VALIDATION_INDEX = 10**9


class CodesToChannelsd(MapTransform):
    """Turn FreeSurfer codes into network channels; a code without a channel becomes background.

    Args:
        keys: items to convert.
        label_table: path of the label table.
        values: ``"channels"`` where the label maps hold these already, see :func:`bundle.training.read_values`.
    """

    @renamed_keywords(labels="label_table")
    def __init__(self, keys: KeysCollection, label_table: str | Path = DEFAULT_TABLE, values: str = "codes") -> None:
        super().__init__(keys)
        table = read_labels(label_table)
        check_trainable(table, label_table)
        channels = {label.channel if values == "channels" else label.code: label.channel for label in table}
        self.lookup = torch.zeros(max(channels) + 1, dtype=torch.uint8)
        for value, channel in channels.items():
            self.lookup[value] = channel

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Convert label maps of any shape.

        Raises:
            InputError: when a label map holds fractions or NaN.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            source = getattr(result[key], "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ, key)
            codes = whole_codes(result[key], source)
            known = (codes >= 0) & (codes < len(self.lookup))
            result[key] = self.lookup[torch.where(known, codes, 0)]
        return result


class ValidationDataset(Dataset[dict[str, Any]]):
    """Real pairs, or synthetic samples with indices that training does not reach.

    Args:
        data: real pairs, see ``find_pairs``; ``None``, or no pair at all, for synthetic samples.
        transform: turns a pair of paths into ``image`` and ``label``.
        synthetic: source of the synthetic samples; of a training on pairs, augmented ones of these.
        length: number of synthetic samples.
    """

    def __init__(
        self,
        data: Sequence[dict[str, str]] | None,
        transform: Callable[[dict[str, str]], dict[str, Any]],
        synthetic: SyntheticBrainDataset,
        length: int,
    ) -> None:
        self.pairs = data or None
        self.transform = transform
        self.synthetic = synthetic
        self.length = length if self.pairs is None else len(self.pairs)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``image`` (1, X, Y, Z) and ``label`` (1, X, Y, Z) channels."""
        if self.pairs is None:
            return self.synthetic[FIRST_VALIDATION_INDEX + index]
        return self.transform(self.pairs[index])
