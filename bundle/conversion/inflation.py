"""A 2D patch embedding made 3D: an image that is constant along depth gives the tokens of its slice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from bundle.conversion.state import SUBJECT
from bundle.errors import ConversionError


def fit_patches(weight: Tensor, wanted: Sequence[int]) -> Tensor:
    """Sum input channels and repeat along depth as far as that leads to the wanted shape.

    Args:
        weight: of a 2D convolution, shape (C, in_channels, H, W).
        wanted: shape of the target, (C, in_channels, H, W) or (C, in_channels, D, H, W).

    Returns:
        Channels summed when one is wanted; repeated along depth and divided by D when the target is 3D. A weight for
        which that is not enough is returned as it is.
    """
    shape = list(wanted)
    in_plane = shape[:2] + shape[-2:]
    result = weight.sum(1, keepdim=True) if shape[1] == 1 and weight.shape[1] > 1 else weight
    if list(result.shape) != in_plane:
        return weight
    return result if len(shape) == 4 else (result / shape[2]).unsqueeze(2).repeat(1, 1, shape[2], 1, 1)


def fit_positions(positions: Tensor, grid: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """Resample positions bilinearly in the plane and repeat them along depth.

    Args:
        positions: of a 2D grid, last axis fastest, shape (1, H * W, C).
        grid: that grid, (H, W).
        wanted: grid of the target, (D, H, W).

    Returns:
        Positions, shape (1, D * H * W, C).
    """
    if list(grid) != list(wanted[1:]):
        plane = positions.transpose(1, 2).unflatten(2, list(grid)).double()  # (1, C, H, W)
        plane = F.interpolate(plane, size=list(wanted[1:]), mode="bilinear", align_corners=False)
        positions = plane.flatten(2).transpose(1, 2).to(positions.dtype)
    return positions.repeat(1, wanted[0], 1)


def find_grid(count: int, class_token: bool, known: Sequence[Sequence[int]]) -> tuple[int, list[int] | None]:
    """Return how many of ``count`` positions are the class token's, and the grid of the others.

    Args:
        count: number of positions.
        class_token: whether there is a class token; it may have a position, or none.
        known: grids (H, W) to try before a square one.

    Returns:
        0 or 1, and the grid, or ``None`` when it is not known and does not matter for the number.

    Raises:
        ConversionError: when no grid fits and there is a class token.
    """
    extras = (0, 1) if class_token else (0,)
    for grid in known:
        for extra in extras:
            if math.prod(grid) == count - extra:
                return extra, list(grid)
    for extra in extras:
        side = math.isqrt(max(count - extra, 0))
        if side > 0 and side * side == count - extra:
            return extra, [side, side]
    if class_token:
        found = f"pos_embed has {count} positions, no square with or without a class token"
        raise ConversionError(SUBJECT, found, "their grid is wanted")
    return 0, None


def deflate_patches(weight: Tensor) -> Tensor | None:
    """Undo the repetition along depth of a weight (C, in_channels, D, H, W); ``None`` when its slices differ.

    Exact when D is a power of two, else to one rounding.
    """
    return weight[:, :, 0] * weight.shape[2] if bool((weight == weight[:, :, :1]).all()) else None


def deflate_positions(positions: Tensor, grid: Sequence[int]) -> Tensor | None:
    """Undo the repetition along depth of positions (1, D * H * W, C); ``None`` when they differ along it."""
    volume = positions.unflatten(1, [grid[0], math.prod(grid[1:])])  # (1, D, H * W, C)
    return volume[:, 0] if bool((volume == volume[:, :1]).all()) else None
