"""Tokens of samples and how good the label maps are that the network makes of them: drawn once, kept in a folder.

What lies there is named by what it follows from: weights, samples and groups. A drawing that was interrupted goes on,
and another training draws anew (``tests/bundle/training/test_quality_training.py``).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from bundle.engines.state import weights_digest
from bundle.io.weights import HEAD, read_checkpoint
from bundle.labels import Label
from bundle.machine import use_bfloat16
from bundle.model.fingerprint import digest
from bundle.model.quality import QualityGroups, group_channels, group_dice
from bundle.synthesis.difficulties import DifficultSamples
from bundle.synthesis.draws import Draws, mixed
from bundle.training.checkpoints import save_whole

logger = logging.getLogger(__name__)
TOKEN_SEED = 1 << 43  # keeps the choice of tokens apart from the draws of samples
SMALLEST_MM3 = 200.0
"""What is left of a group at the border of a window says nothing of how well it was found."""


class JudgedTokens(Dataset[dict[str, Tensor]]):
    """Tokens of samples with the Dice of each group.

    Args:
        samples: draws images and their channels.
        network: a ``networks.TransformerUNet`` with outputs for the scan, whose trunk is not trained.
        groups: codes of the structures of each group, by its name.
        table: the structures.
        folder: where tokens are kept, in a folder of their own: two bytes for each of their numbers.
        count: number of samples.
        first: index of the first one.
        tokens: how many of a sample's tokens a step sees, others each time; ``None`` for all of them.
        precision: as of inference, see ``use_bfloat16``.
    """

    def __init__(
        self,
        samples: DifficultSamples,
        network: Any,
        groups: QualityGroups,
        table: Sequence[Label],
        folder: str | Path,
        count: int,
        first: int = 0,
        tokens: int | None = None,
        precision: str = "auto",
    ) -> None:
        self.samples = samples
        self.network = network
        self.members = group_channels(groups, table)
        self.count = count
        self.first = first
        self.tokens = tokens
        self.precision = precision
        trunk = {name: value for name, value in network.state_dict().items() if not name.startswith(HEAD)}
        key = digest([samples.value, weights_digest_of(trunk), list(groups.values()), [label.code for label in table]])
        self.folder = Path(folder) / f"tokens_{key}"

    def __len__(self) -> int:
        return self.count

    def path(self, number: int) -> Path:
        """Return the file of sample ``number``, counted from ``first``."""
        return self.folder / f"sample_{self.first + number}.pt"

    def draw(self) -> None:
        """Draw all samples that are not there yet."""
        missing = [number for number in range(self.count) if not self.path(number).is_file()]
        if not missing:
            return
        logger.info(f"Drawing {len(missing)} of {self.count} samples into {self.folder}.")
        device = next(self.network.parameters()).device
        bfloat16 = use_bfloat16(self.precision, device)
        seen: list[Tensor] = []
        judging = copy.deepcopy(self.network).eval()
        judging.scan_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for number in tqdm(missing, unit="sample", disable=None):
            sample = self.samples[self.first + number]
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits, _ = judging.forward_with_outputs(sample["image"][None].to(device))
                found = logits[0].argmax(dim=0).to(torch.uint8).cpu()
            smallest = SMALLEST_MM3 / self.samples.dataset.spacing**3
            dice = group_dice(found, sample["label"][0].cpu(), self.members, smallest)
            save_whole({"tokens": seen.pop()[0].half().cpu(), "dice": dice.float()}, self.path(number))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``image``, tokens (N, C), and ``label``, the Dice of each group (G,), NaN where it is not known.

        Indices go on from epoch to epoch; each epoch has all samples, in an order of its own.
        """
        epoch, place = divmod(index, self.count)
        if self.tokens is None:
            return self._read(place, None)
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(mixed(TOKEN_SEED + epoch)))
        return self._read(int(order[place]), Draws(TOKEN_SEED + index))

    def _read(self, number: int, draws: Draws | None) -> dict[str, Tensor]:
        if not self.path(number).is_file():
            self.draw()
        kept = read_checkpoint(self.path(number))
        tokens = kept["tokens"]
        if draws is not None:
            chosen = torch.randint(len(tokens), (self.tokens or 0,), generator=draws.generator)
            tokens = tokens[chosen]
        return {"image": tokens.float(), "label": kept["dice"].clone()}


def weights_digest_of(state: dict[str, Tensor]) -> str:
    """Return a hash of a state dict."""
    holder = torch.nn.Module()
    for name, value in state.items():
        holder.register_buffer(name.replace(".", "/"), value)
    return weights_digest(holder)
