"""Samples of every degree of difficulty, from a good scan to none at all, for what learns to judge a result.

Sample ``index`` depends on the seed, the kinds and ``index`` alone (``tests/bundle/synthesis/test_difficulties.py``).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from bundle.errors import OptionError
from bundle.model.fingerprint import digest
from bundle.synthesis.dataset import SEED_STRIDE, SyntheticBrainDataset
from bundle.synthesis.disturbing import DISTURBANCES, without_head
from bundle.synthesis.draws import Draws
from bundle.synthesis.options import SynthesisOptions, check_names
from bundle.synthesis.synthesiser import Synthesiser

DIFFICULTY_SEED = 1 << 42  # keeps the draws of difficulties apart from those of samples, windows and changes
VERSION = 2
"""To be raised when the same settings give other samples, which what keeps them cannot know."""
LEAST_SHARE = 0.2
"""Of the image, what a disturbance makes of it has at least so much, and all of it in two of five cases."""
CLIP = 0.995
"""Quantile that becomes 1, as at inference."""


@dataclass(frozen=True)
class Kind:
    """One kind of samples.

    Attributes:
        share: how often it is drawn, against the shares of the others.
        options: of the generator, over those of all kinds, see ``SynthesisOptions``.
        disturbances: smallest and largest number of what is done to the image, see ``disturbing.DISTURBANCES``.
        turned: whether image and labels lie in another orientation than their axes say.
        empty: whether a volume without a head takes the sample's place.
    """

    share: float
    options: Mapping[str, Any] = field(default_factory=dict)
    disturbances: Sequence[int] = (0, 0)
    turned: bool = False
    empty: bool = False


class DifficultSamples(Dataset[dict[str, Tensor]]):
    """Draws samples of several kinds.

    Args:
        dataset: gives anatomies and windows, and the seed.
        kinds: by name, the fields of ``Kind``.
        options: of the generator for all kinds, see ``SynthesisOptions``.

    Raises:
        OptionError: when a kind has an unknown field or option, or none has a share.
    """

    def __init__(
        self,
        dataset: SyntheticBrainDataset,
        kinds: Mapping[str, Mapping[str, Any]],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        for name, given in kinds.items():
            check_names(f"kinds#{name}", given, Kind)
        self.kinds = {name: Kind(**given) for name, given in kinds.items()}
        if not sum(kind.share for kind in self.kinds.values()) > 0:
            raise OptionError("kinds", "found no share above 0", "how often each kind is drawn is wanted")
        self.dataset = dataset
        self.sources = {name: self._source({**(options or {}), **kind.options}) for name, kind in self.kinds.items()}
        maps = [label_map.name for label_map in dataset.maps + dataset.brains]
        self.value = digest([VERSION, maps, dataset.seed, dataset.spacing, dataset.eighths, kinds, options])
        """Short hash of what the samples follow from."""

    def _source(self, options: Mapping[str, Any]) -> SyntheticBrainDataset:
        """Return the data set with other options."""
        source, own = copy.copy(self.dataset), self.dataset.synthesise
        source.synthesise = Synthesiser(own.table, own.priors, SynthesisOptions.named(options))
        return source

    def kind(self, index: int) -> str:
        """Return the name of the kind that sample ``index`` is of."""
        at = self._draws(index).positive(sum(kind.share for kind in self.kinds.values()))
        names = list(self.kinds)
        while len(names) > 1 and at >= self.kinds[names[0]].share:
            at -= self.kinds[names.pop(0)].share
        return names[0]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``image`` (1, X, Y, Z) float32, 0 to 1, and ``label`` (1, X, Y, Z) uint8 channels."""
        name, draws = self.kind(index), self._draws(index)
        draws.positive(1.0)  # which told the kind
        kind = self.kinds[name]
        sample = self.sources[name][index]
        image, label = sample["image"], sample["label"]
        if kind.empty:
            image, label = without_head(image, draws), torch.zeros_like(label)
        names = list(DISTURBANCES)
        for _ in range(draws.integer(*kind.disturbances)):
            spoilt = DISTURBANCES[names[draws.integer(0, len(names) - 1)]](image, draws)
            image = torch.lerp(image, spoilt, draws.between(LEAST_SHARE, 1.0) if draws.chance(0.6) else 1.0)
        if kind.turned:
            image, label = _turned(image, label, draws)
        if image is not sample["image"]:
            image = self.dataset._normalise(image, CLIP)
        return {"image": image, "label": label}

    def _draws(self, index: int) -> Draws:
        return Draws(DIFFICULTY_SEED + self.dataset.seed * SEED_STRIDE + index, self.dataset.device)


def _turned(image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Reverse and exchange axes of image and labels, in a way that can be seen: not from left to right alone."""
    order, reversed_axes = [1, 2, 3], [1]
    while order == [1, 2, 3] and not set(reversed_axes) - {1}:
        order = [1 + int(axis) for axis in torch.randperm(3, generator=draws.generator)]
        reversed_axes = [axis for axis in (1, 2, 3) if draws.chance(0.5)]
        if draws.chance(0.5):
            order = [1, 2, 3]
    both = (part.permute(0, *order).flip(reversed_axes).contiguous() for part in (image, label))
    return next(both), next(both)
