"""Images with labels as training and validation samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Randomizable
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from bundle.datasets.case import Case
from bundle.errors import InputError
from bundle.labels import Label

Sample = dict[str, Tensor]


class CaseDataset(Dataset):
    """Each case once, without chance: for validation, and the source of :class:`PairedDataset`.

    Args:
        cases: images with labels.
        labels: the structures; codes become channels.
        preprocessing: MONAI transforms from ``{"image": path, "label": path}`` to tensors (C, X, Y, Z), none of them
            random.
        cache: keep what preprocessing gave in memory, each case from its first use on.

    Raises:
        ValueError: when there is no case.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        labels: Sequence[Label],
        preprocessing: Callable[[dict[str, Any]], dict[str, Any]],
        cache: bool = True,
    ) -> None:
        if not cases:
            raise ValueError("cases must not be empty.")
        self.cases = list(cases)
        self.labels = list(labels)
        self.preprocessing = preprocessing
        self.cache = cache
        self.codes = torch.tensor([label.code for label in labels])
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Sample:
        """Return ``image`` (C, X, Y, Z) float32 and ``label`` (1, X, Y, Z) uint8 channels.

        Raises:
            InputError: when preprocessing gave image and label different sizes, or a code is not in the table.
        """
        if index in self._kept:
            return self._kept[index]
        case = self.cases[index]
        data = self.preprocessing({"image": str(case.image), "label": str(case.label)})
        image = torch.as_tensor(data["image"]).as_subclass(torch.Tensor).float().contiguous()
        label = self._channels(torch.as_tensor(data["label"]).as_subclass(torch.Tensor), case)
        if image.shape[1:] != label.shape[1:]:
            found = f"found {tuple(label.shape[1:])} voxels after preprocessing"
            raise InputError(case.label, found, f"the image's {tuple(image.shape[1:])} are wanted")
        sample = {"image": image, "label": label}
        if self.cache:
            self._kept[index] = sample
        return sample

    def channel_counts(self) -> Tensor:
        """Return the voxels of each channel over all cases, shape (channels,), int64."""
        counts = torch.zeros(len(self.labels), dtype=torch.int64)
        for index in tqdm(range(len(self)), "load", unit="case", disable=None):
            counts += torch.bincount(self[index]["label"].flatten(), minlength=len(self.labels))
        return counts

    def _channels(self, codes: Tensor, case: Case) -> Tensor:
        """Turn codes of any shape into channels, uint8."""
        codes = codes.round().long()
        ordered, channels = self.codes.sort()
        place = torch.searchsorted(ordered, codes).clamp(max=len(ordered) - 1)
        if not torch.equal(ordered[place], codes):
            unknown = sorted(set(codes.unique().tolist()) - set(self.codes.tolist()))
            raise InputError(case.label, f"found the codes {unknown}", "those of the label table are wanted")
        return channels[place].to(torch.uint8)


class PairedDataset(Dataset):
    """Augmented samples of images with labels; sample ``index`` depends on ``seed`` and ``index`` alone, in any worker.

    Every ``len(cases)`` indices are a pass: each case once, in an order of the pass's own.

    Sides: a flip from left to right makes a left structure look like a right one. Where labels have sides, keep such
    flips out of ``augmentation``.

    Args:
        cases: images with labels.
        labels: the structures; codes become channels.
        preprocessing: the part without chance, see :class:`CaseDataset`; runs once for each case.
        augmentation: the random part: MONAI ``Rand*d`` transforms of ``image`` (C, X, Y, Z) and ``label``
            (1, X, Y, Z, uint8 channels, to be interpolated by nearest neighbour); ``None`` for none.
        length: samples of an epoch; any index may be asked for all the same.
        seed: seed of order and augmentation.
        cache: keep preprocessed cases in memory; the workers of a loader share what was loaded before they started.

    Raises:
        ValueError: when there is no case, or ``length`` is below 1.
        TypeError: when ``augmentation`` takes no seed.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        labels: Sequence[Label],
        preprocessing: Callable[[dict[str, Any]], dict[str, Any]],
        augmentation: Compose | Randomizable | None,
        length: int,
        seed: int = 0,
        cache: bool = True,
    ) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}.")
        if augmentation is not None and not isinstance(augmentation, Randomizable):
            raise TypeError(f"augmentation must have set_random_state, got {type(augmentation).__name__}.")
        self.source = CaseDataset(cases, labels, preprocessing, cache)
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
            ValueError: when the augmentation gives several samples.
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
                raise ValueError(f"augmentation must give one sample, got {len(drawn)}: set num_samples to 1.")
            drawn = drawn[0]
        image, label = (torch.as_tensor(drawn[key]).as_subclass(torch.Tensor) for key in ("image", "label"))
        return {"image": image.float().contiguous(), "label": label.round().to(torch.uint8).contiguous()}

    def class_weights(self, power: float = 0.5) -> Tensor:
        """Return weights for the cross entropy: inverse frequency to the ``power``, mean 1, shape (channels,).

        0 weighs all classes alike, 0.5 is the inverse square root. Loads every case once. A class without a voxel
        counts as one voxel.
        """
        weights = self.source.channel_counts().clamp(min=1).double() ** -power
        return (weights / weights.mean()).float()
