"""Random numbers of one sample, all from one seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

VOXELS = 1 << 50
"""Keeps the voxel noise of a seed apart from its single numbers."""


def mixed(seed: int) -> int:
    """Return a seed of 32 bits that depends on all 64 of another: a generator of the CPU ignores the higher ones.

    The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    """
    seed &= 2**64 - 1
    seed = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & 2**64 - 1
    seed = (seed ^ seed >> 27) * 0x94D049BB133111EB & 2**64 - 1
    return (seed ^ seed >> 31) & 2**32 - 1


class Draws:
    """Numbers that depend on a seed alone: single ones and control points from the CPU, voxel noise on ``device``.

    So a seed gives the same anatomy, contrast and geometry on CPU and GPU; only the voxel noise differs between them.

    Args:
        seed: the seed.
        device: where tensors are wanted.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator().manual_seed(mixed(seed))
        self.voxel_generator = torch.Generator(self.device).manual_seed(mixed(seed ^ VOXELS))

    def between(self, low: float, high: float) -> float:
        """Draw one number, uniform."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def positive(self, largest: float) -> float:
        """Draw one number from 0 to ``largest``."""
        return self.between(0.0, largest)

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return self.positive(1.0) < probability

    def integer(self, low: int, high: int) -> int:
        """Draw an integer from ``low`` to ``high``, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def uniform(self, size: Sequence[int], largest: float) -> Tensor:
        """Draw a small tensor, uniform from -largest to largest."""
        return ((torch.rand(size, generator=self.generator) * 2 - 1) * largest).to(self.device)

    def normal(self, size: Sequence[int]) -> Tensor:
        """Draw a small tensor, standard normal."""
        return torch.randn(size, generator=self.generator).to(self.device)

    def voxel_noise(self, size: Sequence[int]) -> Tensor:
        """Draw a large tensor, standard normal, on the device itself."""
        return torch.randn(size, generator=self.voxel_generator, device=self.device)
