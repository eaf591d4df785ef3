"""Where each voxel of a sample lies in its label map: affine, elastic and swelling deformations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bundle.synthesis.anatomy import Anatomy
from bundle.synthesis.draws import Draws
from bundle.synthesis.options import SynthesisOptions

# Distance in voxels of the points at which displacements are computed; they are smooth on this scale.
COARSE_STEP = 4
SWELLING_RADIUS = (8.0, 25.0)  # mm


class Bulge(NamedTuple):
    """What grows at a place (3,), in mm from the brain's centre, by an amount from 0 to 1, within a radius in mm."""

    centre: Tensor
    amount: float
    radius: float


class Warp(NamedTuple):
    """Displacements (3, X, Y, Z) in mm, at points ``step`` mm apart, the middle one in the brain's centre."""

    field: Tensor
    step: float

    def at(self, position: Tensor) -> Tensor:
        """Return the displacements at positions (3, ...) in mm from the brain's centre; beyond the field its edge's."""
        half = (torch.tensor(self.field.shape[1:], device=position.device) - 1) / 2 * self.step
        grid = (position / half.reshape(3, 1, 1, 1)).flip(0).movedim(0, -1)
        field = self.field.to(position.device)[None]
        return F.grid_sample(field, grid[None], padding_mode="border", align_corners=True)[0]


def affine_matrix(draws: Draws, options: SynthesisOptions) -> Tensor:
    """Draw scales, shears and rotations, shape (3, 3)."""
    angles = draws.uniform((3,), options.rotation).deg2rad()
    matrix = torch.diag(1 + draws.uniform((3,), options.scaling))
    matrix = matrix + draws.uniform((3, 3), options.shearing) * (1 - torch.eye(3, device=draws.device))
    for axis in range(3):
        cos, sin = angles[axis].cos(), angles[axis].sin()
        i, j = (axis + 1) % 3, (axis + 2) % 3
        rotation = torch.eye(3, device=draws.device)
        rotation[i, i], rotation[j, j], rotation[i, j], rotation[j, i] = cos, cos, -sin, sin
        matrix = rotation @ matrix
    return matrix


def smooth_field(draws: Draws, channels: int, size: list[int], points: list[int]) -> Tensor:
    """Draw a standard normal field on ``points`` and resample it to ``size``, shape (channels, X, Y, Z)."""
    return resize(draws.normal((1, channels, *points)), size)[0]


def resize(field: Tensor, size: list[int]) -> Tensor:
    """Resample (B, C, ...) trilinearly; the outermost points stay where they are."""
    return F.interpolate(field, size=size, mode="trilinear", align_corners=True)


def swell(position: Tensor, centres: Tensor, draws: Draws, options: SynthesisOptions) -> Tensor:
    """Move positions (3, ...) in mm towards or away from random centres (n, 3): what lies there grows or shrinks.

    ``r (1 - a exp(-r^2 / 2 s^2))`` grows with the distance r for every a from -1 to 1, so nothing folds.
    """
    for _ in range(draws.integer(0, options.swellings) if len(centres) else 0):
        centre = centres[draws.integer(0, len(centres) - 1)]
        amount, radius = draws.between(-options.swelling, options.swelling), draws.between(*SWELLING_RADIUS)
        position = _swollen(position, Bulge(centre, amount, radius))
    return position


def _swollen(position: Tensor, bulge: Bulge) -> Tensor:
    offset = position - bulge.centre.to(position.device).reshape(3, 1, 1, 1)
    return position - bulge.amount * offset * torch.exp(-offset.square().sum(0) / (2 * bulge.radius**2))


def sample_positions(
    label_map: Anatomy,
    size: tuple[int, int, int],
    spacing: float,
    shift: float,
    draws: Draws,
    options: SynthesisOptions,
    bulges: Sequence[Bulge] = (),
    warp: Warp | None = None,
) -> Tensor:
    """Return the position of each voxel of the sample in voxels of the label map, shape (3, X, Y, Z), float32."""
    device = draws.device
    matrix, centre = affine_matrix(draws, options), draws.uniform((3,), shift)
    coarse = [max(2, -(-n // COARSE_STEP)) for n in size]
    extents = [(n - 1) / 2 * spacing for n in size]
    axes = [torch.linspace(-extent, extent, n, device=device) for extent, n in zip(extents, coarse, strict=True)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # mm from the centre of the window
    position = torch.einsum("ij,jxyz->ixyz", matrix, grid) + centre.reshape(3, 1, 1, 1)
    for distance, largest in (
        (options.elastic_spacing, options.elastic_sd),
        (options.fine_elastic_spacing, options.fine_elastic_sd),
    ):
        points = [max(3, round(n * spacing / distance) + 1) for n in size]
        position = position + smooth_field(draws, 3, coarse, points) * draws.positive(largest)
    if warp is not None:
        position = position + warp.at(position)
    position = swell(position, label_map.centres.to(device), draws, options)
    for bulge in bulges:
        position = _swollen(position, bulge)
    voxel = position / label_map.spacing.to(device).reshape(3, 1, 1, 1)
    return resize((voxel + label_map.brain_centre.to(device).reshape(3, 1, 1, 1))[None], list(size))[0]
