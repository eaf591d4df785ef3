"""A streamed result on its way through MONAI's batches: channels on the scan's grid, and what was found on the way.

MONAI takes tensors and their ``meta`` apart by item; the notes travel there on a text. The transforms that make a label
map of logits ask :func:`notes_of`, and pass on what streaming has done already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from bundle.labels import Label
from bundle.results.probabilities import ProbabilityMaps
from bundle.results.quality import Quality

STREAMED = "streamed"
"""Where ``meta`` holds the notes."""


@dataclass
class Notes:
    """What was found on the way from an image to its label map, by class.

    Attributes:
        dropped: voxels of the network's grid that a class lost since they lay apart.
        apart: its voxels in large pieces apart from its main one.
        confidence: its mean margin.
        maps: probability maps, where they are wanted.
        quality: what the network predicts of the result, where it does.
    """

    dropped: Mapping[int, int] = field(default_factory=dict)
    apart: Mapping[int, int] = field(default_factory=dict)
    confidence: Mapping[int, float] = field(default_factory=dict)
    maps: ProbabilityMaps | None = None
    quality: Quality | None = None

    def by_code(self, name: str, table: Sequence[Label]) -> dict[int, Any]:
        """Return one of them by code."""
        return {table[channel].code: value for channel, value in sorted(getattr(self, name).items())}


class _Carrier(str):
    """A text, which MONAI hands on as it is, that carries notes."""

    notes: Notes


def with_notes(results: Sequence[tuple[Tensor, Notes]]) -> MetaTensor:
    """Return channels of equal shape as a batch (B, X, Y, Z), with their notes."""
    batch = MetaTensor(torch.stack([channels for channels, _ in results]))
    carriers = [_Carrier(STREAMED) for _ in results]
    for carrier, (_, notes) in zip(carriers, results, strict=True):
        carrier.notes = notes
    batch.meta = {STREAMED: carriers}
    batch.applied_operations = [[] for _ in results]
    batch.is_batch = True
    return batch


def notes_of(value: Any) -> Notes | None:
    """Return the notes of one item of such a batch, ``None`` for logits."""
    carrier = getattr(value, "meta", {}).get(STREAMED)
    return carrier.notes if isinstance(carrier, _Carrier) else None
