"""Seeds: numbers of one do not follow those of another, in any of their 64 bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bundle.synthesis.dataset import WINDOW_SEED
from bundle.synthesis.difficulties import DIFFICULTY_SEED
from bundle.synthesis.draws import VOXELS, Draws
from bundle.synthesis.reuse import REUSE_SEED
from bundle.training.judged import TOKEN_SEED


def test_voxel_noise_leaves_the_other_numbers_alone():
    """A GPU draws the noise of voxels itself: the anatomy is the CPU's only if no other number comes after it."""
    plain, noisy = Draws(3), Draws(3)
    noisy.voxel_noise((50,))
    assert plain.between(0, 1) == noisy.between(0, 1)
    assert not torch.equal(Draws(3).voxel_noise((5,)), Draws(3).normal((5,)))


@pytest.mark.parametrize("apart", [VOXELS, WINDOW_SEED, REUSE_SEED, DIFFICULTY_SEED, TOKEN_SEED, 1])
def test_seeds_that_differ_in_any_bit_give_other_numbers(apart):
    """A generator of the CPU keeps 32 bits of a seed: windows and kinds of difficulty would follow the anatomy."""
    first, other = ([Draws(seed).between(0, 1) for seed in range(start, start + 400)] for start in (0, apart))
    shared = abs(np.corrcoef(first, other)[0, 1])
    assert shared < 0.2
    assert abs(np.mean(first) - 0.5) < 0.05
