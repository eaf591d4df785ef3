"""The scanner: bias field, contrast, slices of random thickness and direction, noise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bundle.synthesis.artefacts import add_ghosts, coil_field
from bundle.synthesis.deformation import smooth_field
from bundle.synthesis.draws import Draws
from bundle.synthesis.options import SynthesisOptions

FWHM_TO_SD = 1 / math.sqrt(8 * math.log(2))
AIR = 1e-3  # below this an intensity is background


def blur(image: Tensor, deviations: list[float]) -> Tensor:
    """Blur (1, 1, X, Y, Z) with a Gaussian of the standard deviations, in voxels along each axis."""
    for axis, deviation in enumerate(deviations):
        if deviation < 0.2:
            continue
        radius = math.ceil(2.5 * deviation)
        offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[axis + 2], padding[axis] = -1, radius
        image = F.conv3d(image, (kernel / kernel.sum()).reshape(shape), padding=padding)
    return image


def draw_voxel_size(draws: Draws, options: SynthesisOptions) -> list[float]:
    """Draw the voxel of the scan in mm: cubes, or slices of random direction and distance."""
    voxel = [draws.between(*options.plane_spacing)] * 3
    if draws.chance(options.thick_slices):
        axis = draws.integer(0, 2)
        voxel[axis] = max(voxel[axis], draws.between(*options.slice_spacing))
    return voxel


def acquire(image: Tensor, spacing: float, whole_head: bool, draws: Draws, options: SynthesisOptions) -> Tensor:
    """Scan an ideal image and resample the scan back to its grid.

    Args:
        image: intensities, shape (X, Y, Z), at least 0.
        spacing: edge of a voxel in mm.
        whole_head: whether the background is air, with noise, or was set to 0 by a stripping tool.
        draws: source of random numbers.
        options: ranges.

    Returns:
        Intensities, shape (X, Y, Z), at least 0.
    """
    size = list(image.shape)
    air = image <= AIR
    bias = smooth_field(draws, 1, size, [draws.integer(3, 6) for _ in range(3)])[0] * draws.positive(options.bias)
    gamma = math.exp(draws.between(-options.gamma, options.gamma))
    if options.coil > 0 and draws.chance(options.coil):
        bias = bias + coil_field(size, spacing, draws, options).log()
    image = (image * bias.exp()).clamp(min=1e-4).pow(gamma).masked_fill(air, 0.0)[None, None]

    coarser = [max(voxel / spacing, 1.0) for voxel in draw_voxel_size(draws, options)]
    # A slice may be thinner than the distance to the next one.
    profiles = [ratio * draws.between(0.6, 1.0) * FWHM_TO_SD if ratio > 1 else 0.0 for ratio in coarser]
    if options.ghosts > 0 and draws.chance(options.ghosts):
        image = add_ghosts(image[0, 0], draws, options)[None, None]
        image = image if whole_head else image.masked_fill(air, 0.0)
    image = blur(image, [math.hypot(profile, draws.positive(options.blur)) for profile in profiles])
    scanned = [max(2, round(n / ratio)) for n, ratio in zip(size, coarser, strict=True)]
    if scanned != size:
        image = F.interpolate(image, size=scanned, mode="trilinear", align_corners=True)
    noise = draws.voxel_noise(scanned) * draws.positive(options.noise)
    image = (image + noise).abs() if whole_head else (image + noise * (image > AIR)).clamp(min=0)
    return (
        F.interpolate(image, size=size, mode="trilinear", align_corners=True)[0, 0] if scanned != size else image[0, 0]
    )
