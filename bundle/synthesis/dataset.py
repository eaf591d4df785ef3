"""The data set of synthetic samples, and the sampler that gives every step of a training its own sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, get_worker_info

from bundle.labels import DEFAULT_TABLE, check_trainable, mirrored_channels, read_labels, renamed_keywords
from bundle.synthesis.anatomy import Anatomy, class_weights, load_label_maps
from bundle.synthesis.brains import MORE_CODES, Brains
from bundle.synthesis.draws import Draws
from bundle.synthesis.options import SynthesisOptions
from bundle.synthesis.priors import TissuePriors
from bundle.synthesis.synthesiser import Synthesiser
from bundle.synthesis.tissues import DEFAULT_TISSUES, read_tissues
from bundle.synthesis.warps import Warps

SEED_STRIDE = 1_000_003
WINDOW_SEED = 1 << 40  # keeps the draws of windows apart from those of samples


class SyntheticBrainDataset(Dataset[dict[str, Tensor]]):
    """Endless synthetic brain images; sample ``index`` depends on ``seed`` and ``index`` alone, in any worker.

    Args:
        data: NIfTI label maps in FreeSurfer codes.
        spacing: edge of a voxel in mm.
        window_mm: smallest and largest window along X, Y and Z in mm; each sample draws its own, in multiples of 8
            voxels.
        length: samples of an epoch.
        seed: seed of the data set.
        options: ranges of the random steps, by name, see ``SynthesisOptions``.
        label_table: path of the label table.
        transform: applied to each sample.
        group: samples in a row that share a window size: those that one step stacks, over all processes.
        device: where samples are made; a GPU draws in the workers of a ``DataLoader`` too, which are spawned then.
        tissue_table: path of the tissue table, see :func:`bundle.synthesis.tissues.read_tissues`.
        brains: label maps that hold a brain alone, and how heads are laid around them, by name, see ``Brains``.
        warps: file of the warps between the anatomies, see :mod:`bundle.synthesis.warps`; none by default.
        sizes: draw one of so many windows, evenly from the smallest to the largest, instead of each axis for itself: a
            compiled network wants few shapes.

    Raises:
        InputError: when a label map or a table cannot be used.
        OptionError: when there is no such option, or images are to be flipped whose sides are no pairs.
    """

    @renamed_keywords(labels="label_table")
    def __init__(
        self,
        data: Sequence[str | Path],
        spacing: float,
        window_mm: Sequence[Sequence[float]],
        length: int,
        seed: int = 0,
        options: dict[str, Any] | None = None,
        label_table: str | Path = DEFAULT_TABLE,
        transform: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
        group: int = 1,
        device: torch.device | str = "cpu",
        tissue_table: str | Path = DEFAULT_TISSUES,
        brains: dict[str, Any] | None = None,
        warps: str | Path | None = None,
        sizes: int | None = None,
    ) -> None:
        ranges = SynthesisOptions.named(options or {})
        table = read_labels(label_table)
        check_trainable(table, label_table)
        if ranges.flip > 0:
            mirrored_channels(table, label_table)
        added = Brains.named(brains) if brains and brains.get("data") else None
        paths, more = ([*data, *added.data], MORE_CODES) if added else (data, ())
        maps, self.class_table = load_label_maps(paths, table, read_tissues(tissue_table), more)
        self.maps = maps[: len(data)]
        self.brains: list[Anatomy] = []
        if added:
            self.brains = added.prepare(maps[len(data) :], self.class_table)
            self.share, self.make_head = added.share, added.head_maker(self.class_table, self.maps)
        self.synthesise = Synthesiser(self.class_table, TissuePriors.t1(self.class_table), ranges)
        self.warps = Warps(warps, [label_map.name for label_map in self.maps + self.brains]) if warps else None
        self.spacing = spacing
        self.eighths = [[round(mm / spacing / 8) for mm in window] for window in window_mm]
        self.sizes = sizes
        self.length = length
        self.seed = seed
        self.transform = transform
        self.group = group
        self.device = torch.device(device)

    def _place(self) -> None:
        """Move the label maps to the device when the first sample is drawn: by each worker, which has its own GPU."""
        for anatomies in (self.maps, self.brains):
            if anatomies and anatomies[0].classes.device.type != self.device.type:
                anatomies[:] = [label_map.to(self.device) for label_map in anatomies]

    def __len__(self) -> int:
        return self.length

    def class_weights(self, power: float = 0.5) -> Tensor:
        """Return the weight of each channel, its frequency to the power of ``-power``, mean 1, shape (channels,)."""
        return class_weights(self.maps, self.class_table, power)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``image`` (1, X, Y, Z) float32, 0 to 1, and ``label`` (1, X, Y, Z) uint8 channels.

        They are on ``device``, or on the CPU when a ``DataLoader``'s worker draws them.
        """
        self._place()
        draws = Draws(self.seed * SEED_STRIDE + index, self.device)
        if self.brains and draws.chance(self.share):
            label_map = self.make_head(self.brains[draws.integer(0, len(self.brains) - 1)], draws)
        else:
            label_map = self.maps[draws.integer(0, len(self.maps) - 1)]
        warp = None
        if self.warps and draws.chance(self.synthesise.options.warp):
            warp = self.warps.draw(label_map.name, draws)
        image, label = self.synthesise(label_map, self.window(index), self.spacing, draws, warp)
        upper = 1 - draws.between(*self.synthesise.options.clip_share)
        sample = {"image": self._normalise(image, upper), "label": label}
        if get_worker_info() is not None:
            sample = {name: part.cpu() for name, part in sample.items()}
        return sample if self.transform is None else self.transform(sample)

    def window(self, index: int) -> tuple[int, int, int]:
        """Return the size in voxels of sample ``index``."""
        draws = Draws(WINDOW_SEED + self.seed * SEED_STRIDE + index // self.group)
        if self.sizes is None:
            x, y, z = (8 * draws.integer(a, b) for a, b in zip(*self.eighths, strict=True))
        else:
            share = draws.integer(0, self.sizes - 1) / max(1, self.sizes - 1)
            x, y, z = (8 * round(a + share * (b - a)) for a, b in zip(*self.eighths, strict=True))
        return x, y, z

    @staticmethod
    def _normalise(image: Tensor, upper: float) -> Tensor:
        """Scale quantiles 0.005 to ``upper`` to 0 to 1, as inference does; an eighth of the voxels gives them."""
        quantiles = torch.tensor([0.005, upper], device=image.device)
        low, high = image[:, ::2, ::2, ::2].flatten().quantile(quantiles)
        return torch.clamp((image - low) / (high - low).clamp(min=1e-6), 0, 1)


class FreshSampler(DistributedSampler[Any]):
    """Gives epoch ``e`` the indices that follow those of epoch ``e - 1``.

    No sample is seen twice, a resumed run sees what an uninterrupted one would, and each of several processes takes its
    share.
    """

    def __init__(self, dataset: Dataset[Any], num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=False)

    def __iter__(self) -> Iterator[int]:
        return (self.epoch * self.total_size + index for index in super().__iter__())
