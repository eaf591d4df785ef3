"""What spoils an image, more or less: contrasts, noise, motion, holes; and volumes that hold no head at all.

Images are (1, X, Y, Z), 0 to 1. Which number does what is drawn by ``Draws``, so that a seed gives the same volume
(``tests/bundle/synthesis/test_difficulties.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bundle.synthesis.acquisition import blur
from bundle.synthesis.deformation import resize
from bundle.synthesis.draws import Draws

AIR = 0.02
"""Of the brightest: what is darker is no tissue."""
KNOTS = 6
"""Of a curve that gives intensities others."""


def recoloured(image: Tensor, draws: Draws) -> Tensor:
    """Give intensities others along a random curve, as another contrast does; air stays dark, or does not."""
    curve = draws.uniform((KNOTS,), 0.5) + 0.5
    place = image.clamp(0, 1) * (KNOTS - 1)
    low = place.floor().long().clamp(max=KNOTS - 2)
    result = torch.lerp(curve[low], curve[low + 1], place - low)
    return result.masked_fill(image < AIR, 0.0) if draws.chance(0.8) else result


def inverted(image: Tensor, draws: Draws) -> Tensor:
    """Make bright what is dark, in the head or everywhere, all of the way or a part of it."""
    result = torch.lerp(image, 1 - image, draws.between(0.6, 1.0))
    return result.masked_fill(image < AIR, 0.0) if draws.chance(0.7) else result


def noisy(image: Tensor, draws: Draws) -> Tensor:
    """Add normal noise, fine or in grains."""
    grains = resize(draws.voxel_noise((1, 1, *(max(2, n // 3) for n in image.shape[1:]))), list(image.shape[1:]))[0]
    noise = draws.voxel_noise(image.shape) if draws.chance(0.7) else grains
    return (image + noise * draws.between(0.05, 0.6)).abs()


def smeared(image: Tensor, draws: Draws) -> Tensor:
    """Blur along all axes or one."""
    deviation = draws.between(1.0, 5.0)
    axis = draws.integer(0, 3)
    return blur(image[None], [deviation if axis in (number, 3) else 0.0 for number in range(3)])[0]


def coarse(image: Tensor, draws: Draws) -> Tensor:
    """Sample along all axes or one at 3 to 12 voxels."""
    axis, step = draws.integer(0, 3), draws.between(3.0, 12.0)
    steps = [step if axis == number else math.sqrt(step) if axis == 3 else 1.0 for number in range(3)]
    size = list(image.shape[1:])
    return resize(resize(image[None], [max(2, round(n / by)) for n, by in zip(size, steps, strict=True)]), size)[0]


def moved(image: Tensor, draws: Draws) -> Tensor:
    """Average the head with itself elsewhere, as motion does."""
    total, weight = image.clone(), 1.0
    for _ in range(draws.integer(1, 4)):
        shifts = [draws.integer(-12, 12) for _ in range(3)]
        share = draws.between(0.2, 1.0)
        total, weight = total + share * image.roll(shifts, (1, 2, 3)), weight + share
    return total / weight


def shaded(image: Tensor, draws: Draws) -> Tensor:
    """Multiply by a smooth field of up to a factor of 20."""
    field = resize(draws.normal((1, 1, 3, 3, 3)), list(image.shape[1:]))[0]
    return image * (field * draws.between(0.5, 1.5)).exp()


def dimmed(image: Tensor, draws: Draws) -> Tensor:
    """Make all of it dark, as beside something bright, or cut off what is bright."""
    return image * draws.between(0.05, 0.6) if draws.chance(0.5) else (image * draws.between(1.5, 8.0)).clamp(max=1)


def holed(image: Tensor, draws: Draws) -> Tensor:
    """Replace boxes by one intensity."""
    result = image.clone()
    for _ in range(draws.integer(1, 5)):
        x, y, z = (_stretch(n, draws, 0.1, 0.5) for n in image.shape[1:])
        result[:, x, y, z] = draws.between(0.0, 1.0) if draws.chance(0.5) else 0.0
    return result


def striped(image: Tensor, draws: Draws) -> Tensor:
    """Add a wave through the volume, as a spike in k-space does."""
    wave = torch.zeros(image.shape[1:], device=draws.device)
    for axis, length in enumerate(image.shape[1:]):
        shape = [1, 1, 1]
        shape[axis] = length
        wave = wave + (torch.arange(length, device=draws.device) * draws.between(0.0, 1.5)).reshape(shape)
    return (image + wave.cos()[None] * draws.between(0.05, 0.5)).clamp(min=0)


DISTURBANCES: Mapping[str, Callable[[Tensor, Draws], Tensor]] = {
    "recoloured": recoloured,
    "inverted": inverted,
    "noisy": noisy,
    "smeared": smeared,
    "coarse": coarse,
    "moved": moved,
    "shaded": shaded,
    "dimmed": dimmed,
    "holed": holed,
    "striped": striped,
}


def without_head(image: Tensor, draws: Draws) -> Tensor:
    """Return a volume of an image's size that holds no head: noise, shapes, a head in shuffled pieces, or nothing."""
    kind = draws.integer(0, 3)
    if kind == 0:
        grain = draws.between(1.0, 24.0)
        size = [max(2, round(n / grain)) for n in image.shape[1:]]
        return resize(draws.voxel_noise((1, 1, *size)), list(image.shape[1:]))[0] * (draws.chance(0.5) or image > AIR)
    if kind == 1:
        return _shapes(image, draws)
    if kind == 2:
        return _shuffled(image, draws)
    return torch.full_like(image, draws.positive(1.0)) + draws.voxel_noise(image.shape) * draws.positive(0.02)


def _shapes(image: Tensor, draws: Draws) -> Tensor:
    """Return balls, boxes and shells of one intensity each, with noise."""
    size = image.shape[1:]
    axes = [torch.linspace(-1, 1, n, device=draws.device) for n in size]
    result = torch.zeros(size, device=draws.device)
    for _ in range(draws.integer(1, 8)):
        centre, radii = draws.uniform((3,), 0.7), draws.uniform((3,), 0.4).abs() + 0.1
        x, y, z = (((axis - c) / r).abs() for axis, c, r in zip(axes, centre, radii, strict=True))
        away = x[:, None, None].square() + y[:, None].square() + z.square()
        if draws.chance(0.4):
            away = torch.maximum(torch.maximum(x[:, None, None], y[:, None]), z)
        inner = draws.between(0.3, 0.9) if draws.chance(0.4) else 0.0
        result = torch.where((away < 1) & (away >= inner), draws.between(0.1, 1.0), result)
    return (result + draws.voxel_noise(size) * draws.positive(0.1)).abs()[None]


def _shuffled(image: Tensor, draws: Draws) -> Tensor:
    """Return the blocks of an image in another order."""
    edge = draws.integer(2, 5) * 8
    counts = [n // edge for n in image.shape[1:]]
    inside = image[0, : counts[0] * edge, : counts[1] * edge, : counts[2] * edge]
    x, y, z = counts
    blocks = inside.reshape(x, edge, y, edge, z, edge).permute(0, 2, 4, 1, 3, 5).reshape(x * y * z, edge, edge, edge)
    blocks = blocks[torch.randperm(len(blocks), generator=draws.generator).to(blocks.device)]
    result = torch.zeros_like(image)
    placed = blocks.reshape(x, y, z, edge, edge, edge).permute(0, 3, 1, 4, 2, 5).reshape(inside.shape)
    result[0, : inside.shape[0], : inside.shape[1], : inside.shape[2]] = placed
    return result


def _stretch(length: int, draws: Draws, least: float, most: float) -> slice:
    """Draw a part of an axis."""
    size = max(1, round(length * draws.between(least, most)))
    start = draws.integer(0, length - size)
    return slice(start, start + size)
