"""The label map as a program takes it that leaves the writing out: with a channel, and the values that it can name.

MONAI Label and MONAI Deploy keep what the postprocessing returns and leave out what writes. Their clients name a value
by ``channel_def`` of the metadata, and DICOM numbers segments from 1 on: both are channels, not FreeSurfer's codes.
The contract is held by ``tests/bundle/inference/test_label_values.py`` and ``tests/bundle/export/test_monai_label.py``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from bundle.choices import LABEL_VALUES
from bundle.errors import OptionError
from bundle.labels import DEFAULT_TABLE, channel_codes, read_labels


class LabelValuesd(MapTransform):
    """Give restored label maps a channel and the values that were asked for, (X, Y, Z) -> (1, X, Y, Z), int16.

    Args:
        keys: label maps of codes, see :class:`bundle.inference.RestoreLabelMapd`.
        values: ``"channels"``, the places in the label table, which ``channel_def`` of the metadata names, or
            ``"codes"``, which label files hold.
        label_table: path of the label table.

    Raises:
        OptionError: for other values.
    """

    def __init__(self, keys: KeysCollection, values: str = "channels", label_table: str | Path = DEFAULT_TABLE) -> None:
        super().__init__(keys)
        if values not in LABEL_VALUES:
            raise OptionError("label_values", f"found {values!r}", f"one of {', '.join(LABEL_VALUES)} is wanted")
        codes = channel_codes(read_labels(label_table))
        self.lookup = np.arange(codes.max() + 1, dtype=np.int16)
        if values == "channels":
            self.lookup[codes] = np.arange(len(codes), dtype=np.int16)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with label maps of a channel."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.lookup[np.asarray(result[key])][None]
        return result
