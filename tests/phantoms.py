"""A head of shells: air, fluid, grey and white matter, with grain, on voxels of 2 mm."""

from __future__ import annotations

import numpy as np

SPACING = (2.0, 2.0, 2.0)
SHAPE = (84, 100, 84)
WHITE = 800.0


def depth():
    """Return how far inside the ellipsoid each voxel lies: 1 at the centre, 0 at its surface, negative outside."""
    axes = [np.linspace(-1, 1, length) * 1.25 for length in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return 1 - np.sqrt(x**2 + y**2 + z**2)


def stripped_head(seed=0):
    """Return intensities, float32: air 0, fluid 200, grey 550, white matter 800; nothing but air is below 100."""
    deep = depth()
    image = np.select([deep < 0, deep < 0.04, deep < 0.15], [0, 200, 550], default=WHITE).astype(np.float32)
    image[deep > 0.9] = 200
    grain = np.random.default_rng(seed).normal(0, 25, SHAPE)
    return np.where(deep < 0, 0, np.maximum(image + grain, 101)).astype(np.float32)


def stripped_t2(seed=0):
    """Return such a head as T2 shows it: air 0, fluid 1000 (outside and in large ventricles), grey 550, white 350."""
    deep = depth()
    image = np.select([deep < 0, deep < 0.04, deep < 0.15, deep < 0.7], [0, 1000, 550, 350], default=1000)
    grain = np.random.default_rng(seed).normal(0, 8, SHAPE)
    return np.where(deep < 0, 0, image + grain).astype(np.float32)


def standardise(image, mask):
    """Return the image with mean 0 and standard deviation 1 inside a mask, 0 outside; and where 0 has gone."""
    mean, deviation = image[mask].mean(), image[mask].std()
    return np.where(mask, (image - mean) / deviation, 0).astype(np.float32), float(-mean / deviation)
