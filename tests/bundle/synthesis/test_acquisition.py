"""The imitated scanner: slices, noise, blur."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from bundle.synthesis.acquisition import acquire, blur
from bundle.synthesis.draws import Draws
from bundle.synthesis.options import SynthesisOptions
from tests.bundle.synthesis.still import STILL


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_blur_along_one_axis(axis):
    options = SynthesisOptions(
        **{**STILL, "thick_slices": 1.0, "slice_spacing": (6.0, 6.0), "plane_spacing": (1.0, 1.0)}
    )
    image = torch.zeros(48, 48, 48)
    image[:] = 0.1 + 0.8 * (torch.arange(48) // 6 % 2).reshape([-1 if i == axis else 1 for i in range(3)])
    contrast = []
    for seed in range(12):
        scan = acquire(image, 1.0, False, Draws(seed), options)
        assert scan.shape == image.shape
        contrast.append(float(scan.std() / image.std()))
    assert min(contrast) < 0.8, "slices of 6 mm across stripes of 6 mm lose contrast"
    assert max(contrast) > 0.94, "slices along the stripes keep it"


def test_noise_has_the_wanted_strength_and_leaves_stripped_background_alone():
    image = torch.zeros(40, 40, 40)
    image[8:32, 8:32, 8:32] = 0.5
    options = SynthesisOptions(**{**STILL, "noise": 0.06})
    deviations = []
    for seed in range(20):
        scan = acquire(image, 1.0, False, Draws(seed), options)
        assert scan[image == 0].abs().max() == 0
        deviations.append(float(scan[10:30, 10:30, 10:30].std()))
    assert max(deviations) < 0.065
    assert np.mean(deviations) == pytest.approx(0.03, abs=0.012)
    assert acquire(image, 1.0, True, Draws(1), options)[image == 0].std() > 0


def test_blur_is_scipys_gaussian():
    image = torch.rand(1, 1, 20, 22, 24)
    expected = gaussian_filter(image[0, 0].numpy(), (1.3, 0, 0.7), mode="constant", radius=(4, 0, 2))
    assert np.allclose(blur(image, [1.3, 0.0, 0.7])[0, 0].numpy(), expected, atol=1e-5)
