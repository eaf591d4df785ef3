"""Samples that are drawn once, kept in a bounded folder and used a few times, each time changed a little.

Which sample an index gives, and how it is changed, depends on the seed and the index alone: a training that goes on, or
whose folder was emptied, sees what it would have seen (``tests/bundle/synthesis/test_reuse.py``). The folder only saves
the drawing.
"""

from __future__ import annotations

import contextlib
import math
import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from bundle.errors import OptionError
from bundle.io.whole import whole_file
from bundle.label_groups import IGNORED_CHANNEL
from bundle.synthesis.dataset import SEED_STRIDE, SyntheticBrainDataset
from bundle.synthesis.deformation import smooth_field
from bundle.synthesis.draws import Draws

REUSE_SEED = 1 << 41  # keeps the changes apart from the draws of samples and windows
GAMMA, BIAS, NOISE = 0.2, 0.15, 0.03
"""Largest changes of a sample that is used again: log gamma, log bias field, noise."""


class ReusedSamples(Dataset[dict[str, Tensor]]):
    """Draws ``keep`` samples, gives each of them ``uses`` times in turn, then draws the next ones.

    Args:
        dataset: draws the samples.
        folder: where those in use are kept, as two volumes of uint8; twice ``keep`` of them at most.
        keep: samples that take turns; a multiple of the samples that a step stacks.
        uses: how often each is given; 1 draws each anew and keeps none.

    Raises:
        OptionError: when a number is out of range.
    """

    def __init__(self, dataset: SyntheticBrainDataset, folder: str | Path, keep: int = 16, uses: int = 3) -> None:
        if uses < 1:
            raise OptionError("uses", f"found {uses}", "1 or more is wanted")
        if keep < 1 or keep % dataset.group:
            raise OptionError("keep", f"found {keep}", f"a multiple of the {dataset.group} samples of a step is wanted")
        self.dataset = dataset
        self.folder = Path(folder)
        self.keep = keep
        self.uses = uses

    def __len__(self) -> int:
        return len(self.dataset)

    def drawn(self, index: int) -> tuple[int, int]:
        """Return which sample of the data set an index gives, and how often it was given before."""
        block, within = divmod(index, self.keep * self.uses)
        return block * self.keep + within % self.keep, within // self.keep

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``image`` (1, X, Y, Z) float32, 0 to 1, and ``label`` (1, X, Y, Z) uint8 channels."""
        number, before = self.drawn(index)
        both = self._kept(number)
        if both is None:
            sample = self.dataset[number]
            image = (sample["image"] * 255).round().to(torch.uint8)
            both = torch.cat([image, sample["label"]]).cpu().numpy()
            if self.uses > 1:
                self._keep(number, both)
        image, label = (torch.from_numpy(part)[None] for part in both)
        sample = {"image": image.float() / 255, "label": label}
        return self._changed(sample, index) if before else sample

    def _changed(self, sample: dict[str, Tensor], index: int) -> dict[str, Tensor]:
        """Return a sample mirrored or not, with another contrast, bias field and noise."""
        draws = Draws(REUSE_SEED + self.dataset.seed * SEED_STRIDE + index)
        image, label = sample["image"], sample["label"]
        options = self.dataset.synthesise.options
        if options.flip > 0 and draws.chance(0.5):
            mirrored = torch.full((IGNORED_CHANNEL + 1,), IGNORED_CHANNEL, dtype=torch.uint8)
            own = self.dataset.class_table.mirrored.cpu()
            mirrored[: len(own)] = own.to(torch.uint8)
            image, label = image.flip(1), mirrored[label.int()].flip(1)
        air = image == 0
        bias = smooth_field(draws, 1, list(image.shape[1:]), [4, 4, 4]) * draws.positive(BIAS)
        image = (image.clamp(min=1e-4).pow(math.exp(draws.between(-GAMMA, GAMMA))) * bias.exp()).clamp(0, 1)
        image = (image + draws.positive(NOISE) * draws.voxel_noise(image.shape)).clamp(0, 1)
        return {"image": image.masked_fill(air, 0.0), "label": label}

    def _path(self, number: int) -> Path:
        return self.folder / f"sample_{number}.npy"

    def _kept(self, number: int) -> NDArray[np.uint8] | None:
        with contextlib.suppress(OSError, ValueError, EOFError):
            found = np.load(self._path(number), allow_pickle=False)
            if isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.ndim == 4:
                return found
        return None

    def _keep(self, number: int, both: NDArray[np.uint8]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self._path(number), overwrite=True) as unfinished, open(unfinished, "wb") as file:
            np.save(file, both)
        first = number // self.keep * self.keep
        for path in self.folder.glob("sample_*.npy"):
            match = re.fullmatch(r"sample_(\d+)", path.stem)
            if match and not first - self.keep < int(match[1]) < first + self.keep:
                path.unlink(missing_ok=True)
