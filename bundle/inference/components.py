"""One piece for each structure: what lies apart from its largest component goes to the next likely class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from bundle.errors import OptionError
from bundle.labels import DEFAULT_TABLE, read_labels, renamed_keywords
from bundle.results.record import dropped_key

TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a corner belong together: thin structures would fall apart otherwise."""

ROUNDS = 4
"""A piece that a class gains from another can be a stray one again; only noise needs more than two rounds."""


def _stray_voxels(winner: NDArray[np.uint8], channel: int, box: tuple[slice, ...] | None) -> NDArray[np.int64]:
    """Return the indices of the voxels of a class apart from its largest component in ``box``, shape (3, K)."""
    none = np.empty((3, 0), dtype=np.int64)
    if box is None:
        return none
    pieces, count = ndimage.label(winner[box] == channel, TOUCHING)
    if count < 2:
        return none
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    stray = np.array(np.nonzero((pieces > 0) & (pieces != sizes.argmax())))
    return np.asarray(stray + [[part.start] for part in box])


def keep_largest_components(logits: Tensor, channels: Sequence[int], dropped: Counter[int] | None = None) -> Tensor:
    """Forbid a class wherever it wins apart from its largest component; the next likely class wins there instead.

    Largest components are what SynthSeg keeps, too (arXiv 2107.09559). Nothing becomes a hole: a stray piece of
    hippocampus inside white matter becomes white matter. A class that gains voxels in this way is looked at again.

    Args:
        logits: shape (classes, X, Y, Z); changed in place.
        channels: the classes that are of one piece, without the background.
        dropped: gains the voxels that each class lost.

    Returns:
        ``logits``, minus infinity where a class was forbidden.
    """
    winner = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
    gained = set(channels)
    for _ in range(ROUNDS):
        boxes = ndimage.find_objects(winner)
        candidates = [channel for channel in sorted(gained) if channel <= len(boxes)]
        gained = set()
        for channel in candidates:
            stray = _stray_voxels(winner, channel, boxes[channel - 1])
            if not stray.size:
                continue
            if dropped is not None:
                dropped[channel] += stray.shape[1]
            x, y, z = torch.from_numpy(stray).to(logits.device)
            with torch.inference_mode():
                logits[channel, x, y, z] = -torch.inf
                heirs = logits[:, x, y, z].argmax(dim=0).to(torch.uint8).cpu().numpy()
            winner[tuple(stray)] = heirs
            gained.update(set(heirs.tolist()) & set(channels))
    return logits


class KeepLargestComponentsd(MapTransform):
    """Leave each structure its largest component, see :func:`keep_largest_components`.

    Beside each key comes ``<key>_dropped``: the voxels that were taken from each structure, by code.

    Args:
        keys: logits, shape (classes, X, Y, Z).
        codes: codes of the structures that are of one piece; none leaves the logits as they are.
        label_table: path of the label table.

    Raises:
        OptionError: when the table has no such code, or it is the background's.
    """

    @renamed_keywords(labels="label_table")
    def __init__(self, keys: KeysCollection, codes: Sequence[int], label_table: str | Path = DEFAULT_TABLE) -> None:
        super().__init__(keys)
        self.table = read_labels(label_table)
        channel_of = {label.code: label.channel for label in self.table if label.channel}
        unknown = sorted(set(codes) - set(channel_of))
        if unknown:
            found = f"has no structure with the code {unknown[0]}"
            raise OptionError(label_table, found, "codes of the table are wanted as largest_component", "labels")
        self.channels = sorted(channel_of[code] for code in codes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the same logits, changed in place."""
        result = dict(data)
        for key in list(self.key_iterator(result)):
            dropped: Counter[int] = Counter()
            if self.channels:
                keep_largest_components(result[key].as_subclass(torch.Tensor), self.channels, dropped)
            result[dropped_key(key)] = {self.table[channel].code: voxels for channel, voxels in sorted(dropped.items())}
        return result
