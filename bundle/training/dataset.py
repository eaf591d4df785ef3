"""The data set of synthetic samples, and the sampler that gives every step of a training its own sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from bundle.labels import DEFAULT_TABLE, read_labels
from bundle.training.label_maps import class_weights, load_label_maps
from bundle.training.priors import TissuePriors
from bundle.training.synthesis import Synthesiser, SynthesisOptions


class SyntheticBrainDataset(Dataset):
    """Endless synthetic brain images; sample ``index`` depends on ``seed`` and ``index`` alone, in any worker.

    Args:
        data: NIfTI label maps in FreeSurfer codes.
        spacing: edge of a voxel in mm.
        window_mm: smallest and largest window along X, Y and Z in mm; each sample draws its own, in multiples of 8
            voxels.
        length: samples of an epoch.
        seed: seed of the data set.
        options: ranges of the random steps, by name, see ``SynthesisOptions``.
        labels: label table.
        transform: applied to each sample.
    """

    def __init__(
        self,
        data: Sequence[str | Path],
        spacing: float,
        window_mm: Sequence[Sequence[float]],
        length: int,
        seed: int = 0,
        options: dict[str, float] | None = None,
        labels: str | Path = DEFAULT_TABLE,
        transform: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        self.maps, self.class_table = load_label_maps(data, read_labels(labels))
        self.synthesise = Synthesiser(
            self.class_table, TissuePriors.t1(self.class_table), SynthesisOptions(**(options or {}))
        )
        self.spacing = spacing
        self.eighths = [[round(mm / spacing / 8) for mm in window] for window in window_mm]
        self.length = length
        self.seed = seed
        self.transform = transform

    def __len__(self) -> int:
        return self.length

    def class_weights(self) -> Tensor:
        """Return the weight of each channel for the cross entropy, shape (channels,)."""
        return class_weights(self.maps, self.class_table)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``image`` (1, X, Y, Z) float32, 0 to 1, and ``label`` (1, X, Y, Z) uint8 channels."""
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        label_map = self.maps[int(torch.randint(len(self.maps), (), generator=rng))]
        low, high = self.eighths
        x, y, z = (8 * int(torch.randint(a, b + 1, (), generator=rng)) for a, b in zip(low, high, strict=True))
        image, label = self.synthesise(label_map, (x, y, z), self.spacing, rng)
        sample = {"image": self._normalise(image), "label": label}
        return sample if self.transform is None else self.transform(sample)

    @staticmethod
    def _normalise(image: Tensor) -> Tensor:
        """Scale percentiles 0.5 to 99.5 to 0 to 1, as inference does; an eighth of the voxels gives them."""
        low, high = image[:, ::2, ::2, ::2].flatten().quantile(torch.tensor([0.005, 0.995]))
        return ((image - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)


class FreshSampler(DistributedSampler):
    """Gives epoch ``e`` the indices that follow those of epoch ``e - 1``: no sample is seen twice, a resumed run
    sees what an uninterrupted one would, and each of several processes takes its share."""

    def __init__(self, dataset: Dataset, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=False)

    def __iter__(self) -> Iterator[int]:
        return (self.epoch * self.total_size + index for index in super().__iter__())
