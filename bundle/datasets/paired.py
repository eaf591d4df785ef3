"""Images with labels as training and validation samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Randomizable
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from bundle.datasets.case import Case
from bundle.errors import InputError, OptionError
from bundle.label_groups import IGNORED_CHANNEL
from bundle.labels import Label, check_trainable, renamed_keywords

Sample = dict[str, Tensor]
LISTED_VALUES = 8


class CaseDataset(Dataset[Sample]):
    """Each case once, without chance: for validation, and the source of :class:`PairedDataset`.

    Args:
        cases: images with labels.
        table: the structures; codes become channels.
        preprocessing: MONAI transforms from ``{"image": path, "label": path}`` to tensors (C, X, Y, Z), none of them
            random.
        cache: keep what preprocessing gave in memory, each case from its first use on.
        channels: channel of each code of the label files; those of the table by default.

    Raises:
        OptionError: when there is no case.
    """

    @renamed_keywords(labels="table")
    def __init__(
        self,
        cases: Sequence[Case],
        table: Sequence[Label],
        preprocessing: Callable[[dict[str, Any]], dict[str, Any]],
        cache: bool = True,
        channels: Mapping[int, int] | None = None,
    ) -> None:
        if not cases:
            raise OptionError("cases", "found none", "at least one image with labels is wanted")
        check_trainable(table)
        self.cases = list(cases)
        self.table = list(table)
        self.preprocessing = preprocessing
        self.cache = cache
        of_code = channels or {label.code: label.channel for label in table}
        self.codes, self.channels = (torch.tensor(values) for values in zip(*sorted(of_code.items()), strict=True))
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Sample:
        """Return ``image`` (C, X, Y, Z) float32 and ``label`` (1, X, Y, Z) uint8 channels.

        Raises:
            InputError: when preprocessing gave image and label different sizes, or labels that are no whole numbers or
                not in the table.
        """
        if index in self._kept:
            return self._kept[index]
        case = self.cases[index]
        data = self.preprocessing(case.item())
        image = torch.as_tensor(data["image"]).as_subclass(torch.Tensor).float().contiguous()
        label = self._channels(torch.as_tensor(data["label"]).as_subclass(torch.Tensor), case)
        if image.shape[1:] != label.shape[1:]:
            found = f"found {tuple(label.shape[1:])} voxels after preprocessing"
            raise InputError(case.label, found, f"the image's {tuple(image.shape[1:])} are wanted", "grid")
        sample = {"image": image, "label": label}
        if self.cache:
            self._kept[index] = sample
        return sample

    def channel_counts(self) -> Tensor:
        """Return the voxels of each channel over all cases, shape (channels,), int64."""
        counts = torch.zeros(len(self.table), dtype=torch.int64)
        for index in tqdm(range(len(self)), "load", unit="case", disable=None):
            found = torch.bincount(self[index]["label"].flatten(), minlength=IGNORED_CHANNEL + 1)
            counts += found[: len(self.table)]
        return counts

    def _channels(self, codes: Tensor, case: Case) -> Tensor:
        """Turn codes of any shape into channels, uint8."""
        codes = whole_codes(codes, case.label)
        place = torch.searchsorted(self.codes, codes).clamp(max=len(self.codes) - 1)
        if not torch.equal(self.codes[place], codes):
            unknown = sorted(set(torch.unique(codes).tolist()) - set(self.codes.tolist()))
            raise InputError(case.label, f"found the codes {unknown}", "those of the label table are wanted", "labels")
        return self.channels[place].to(torch.uint8)


class PairedDataset(Dataset[Sample]):
    """Augmented samples of images with labels; sample ``index`` depends on ``seed`` and ``index`` alone, in any worker.

    Every ``len(cases)`` indices are a pass: each case once, in an order of the pass's own.

    Sides: a flip from left to right makes a left structure look like a right one. Where labels have sides, keep such
    flips out of ``augmentation``.

    Args:
        cases: images with labels.
        table: the structures; codes become channels.
        preprocessing: the part without chance, see :class:`CaseDataset`; runs once for each case.
        augmentation: the random part: MONAI ``Rand*d`` transforms of ``image`` (C, X, Y, Z) and ``label``
            (1, X, Y, Z, uint8 channels, to be interpolated by nearest neighbour); ``None`` for none.
        length: samples of an epoch; any index may be asked for all the same.
        seed: seed of order and augmentation.
        cache: keep preprocessed cases in memory; the workers of a loader share what was loaded before they started.
        channels: channel of each code of the label files; those of the table by default.

    Raises:
        OptionError: when there is no case, ``length`` is below 1, or ``augmentation`` takes no seed.
    """

    @renamed_keywords(labels="table")
    def __init__(
        self,
        cases: Sequence[Case],
        table: Sequence[Label],
        preprocessing: Callable[[dict[str, Any]], dict[str, Any]],
        augmentation: Compose | Randomizable | None,
        length: int,
        seed: int = 0,
        cache: bool = True,
        channels: Mapping[int, int] | None = None,
    ) -> None:
        if length < 1:
            raise OptionError("length", f"found {length}", "at least 1 is wanted")
        if augmentation is not None and not isinstance(augmentation, Randomizable):
            found = f"found a {type(augmentation).__name__} without set_random_state"
            raise OptionError("augmentation", found, "a random transform of MONAI, or a Compose of such, is wanted")
        self.source = CaseDataset(cases, table, preprocessing, cache, channels)
        self.augmentation = augmentation
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def case_of(self, index: int) -> int:
        """Return which case sample ``index`` is made of."""
        turn, place = divmod(index, len(self.source))
        return int(np.random.default_rng([self.seed, turn]).permutation(len(self.source))[place])

    def __getitem__(self, index: int) -> Sample:
        """Return ``image`` (C, X, Y, Z) float32 and ``label`` (1, X, Y, Z) uint8 channels.

        Raises:
            OptionError: when the augmentation gives several samples.
            InputError: as for :class:`CaseDataset`, and when the augmentation gives labels that are no whole numbers.
        """
        # The copy keeps transforms that work in place off the cache.
        sample = {key: value.clone() for key, value in self.source[self.case_of(index)].items()}
        if self.augmentation is None:
            return sample
        state = np.random.SeedSequence([self.seed, index]).generate_state(1)
        self.augmentation.set_random_state(seed=int(state[0]))
        drawn: Any = self.augmentation(sample)  # type: ignore[operator]
        if isinstance(drawn, list):  # RandCropByPosNegLabeld and the like
            if len(drawn) != 1:
                raise OptionError("augmentation", f"found {len(drawn)} samples", "one is wanted: set num_samples to 1")
            drawn = drawn[0]
        image, label = (torch.as_tensor(drawn[key]).as_subclass(torch.Tensor) for key in ("image", "label"))
        channels = whole_codes(label, "augmentation").to(torch.uint8)
        return {"image": image.float().contiguous(), "label": channels.contiguous()}

    def class_weights(self, power: float = 0.5) -> Tensor:
        """Return weights for the cross entropy: inverse frequency to the ``power``, mean 1, shape (channels,).

        0 weighs all classes alike, 0.5 is the inverse square root. Loads every case once. A class without a voxel
        counts as one voxel.
        """
        weights = self.source.channel_counts().clamp(min=1).double() ** -power
        return (weights / weights.mean()).float()


def whole_codes(labels: Tensor, source: str | Path) -> Tensor:
    """Return labels of any shape and type as int64; fractions would become the codes of other structures.

    Args:
        labels: as read or interpolated.
        source: where they come from, for the message.

    Raises:
        InputError: when there are fractions, NaN or Inf among them.
    """
    whole = labels.isfinite() & (labels == labels.round())
    if not whole.all():
        values = torch.unique(labels[~whole])[:LISTED_VALUES].tolist()
        found = f"found labels that are no whole numbers ({', '.join(f'{value:g}' for value in values)})"
        raise InputError(source, found, "integer codes, interpolated by nearest neighbour, are wanted", "labels")
    return labels.long()
