"""Warps between anatomies: one is led part of the way to another, so that shapes between and beyond those given occur.

Each label map is registered to one of them, the template, which gives the position in its own space of every point of
the template. For two anatomies a and b and a share f, the point t of the template comes to lie at (1 - f) a(t) + f b(t)
and shows what a has at a(t). Whatever the registration's accuracy, labels are those of a, deformed without folds where
the warps have none. ``tests/bundle/synthesis/test_warps.py`` holds that a ball led all the way to another fits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bundle.errors import InputError
from bundle.io.weights import read_checkpoint
from bundle.io.whole import whole_file
from bundle.synthesis.acquisition import blur
from bundle.synthesis.anatomy import Anatomy, ClassTable
from bundle.synthesis.deformation import Warp
from bundle.synthesis.draws import Draws

STEP = 4.0
"""mm between the points of a warp, and of the maps that are registered."""
EXTENT = (168.0, 216.0, 176.0)
"""mm around the brain's centre."""
STEPS = 30
"""Each moves a point by 2 mm at most; heads differ by 15 mm."""
SMOOTHNESS = 0.5
"""Standard deviation, in points, of the blur of the tissues' shares."""
FLUID, ELASTIC = 1.2, 0.6
"""Standard deviation, in points, of the blurs of each step and of the whole displacement."""
STEEPEST = 0.7
"""Largest change of a displacement from point to point, as a share of their distance: below 1 nothing folds."""
BEYOND = (-0.2, 1.1)
"""Shares of the way that are drawn: below 0 leads away from the other, above 1 beyond it."""
INVERSION_STEPS = 12
GROUPS = (
    *((2, 41), (3, 42), (4, 43, 5, 44, 14, 15), (7, 46), (8, 47), (10, 49), (11, 50, 26, 58), (12, 51, 13, 52)),
    *((16, 28, 60), (17, 53, 18, 54)),
)
"""Codes that are registered as one tissue; both sides are apart by where they lie."""


def _axes(points: Sequence[int], step: float) -> list[Tensor]:
    return [(torch.arange(n) - (n - 1) / 2) * step for n in points]


def _grid(step: float) -> Tensor:
    """Return points around the brain's centre in mm, shape (3, X, Y, Z)."""
    points = [round(extent / step) + 1 for extent in EXTENT]
    return torch.stack(torch.meshgrid(*_axes(points, step), indexing="ij"))


def tissue_shares(anatomy: Anatomy, table: ClassTable) -> Tensor:
    """Return the share of each group of tissues at the points of a warp, blurred, shape (groups, X, Y, Z)."""
    spacing = anatomy.spacing.cpu().reshape(3, 1, 1, 1)
    x, y, z = (max(1, round(STEP / edge)) for edge in anatomy.spacing.tolist())
    voxel = _grid(STEP) / spacing + anatomy.brain_centre.cpu().reshape(3, 1, 1, 1)
    steps = torch.tensor([x, y, z]).reshape(3, 1, 1, 1)
    point = (voxel - (steps - 1) / 2) / steps  # of the map that has the mean of each block
    classes = anatomy.classes.cpu().int()
    shares = []
    for group in GROUPS:
        lookup = torch.tensor([code in group for code in table.codes], dtype=torch.float32)
        blocks = F.avg_pool3d(lookup[classes][None, None], (x, y, z), ceil_mode=True)
        scale = 2 / (torch.tensor(blocks.shape[2:]) - 1).reshape(3, 1, 1, 1)
        position = (point * scale - 1).flip(0).movedim(0, -1)[None]
        shares.append(F.grid_sample(blocks, position, align_corners=True)[0, 0])
    return blur(torch.stack(shares)[:, None], [SMOOTHNESS] * 3)[:, 0]


def register(fixed: Tensor, moving: Tensor) -> Tensor:
    """Return the displacement in mm, shape (3, X, Y, Z), that makes ``moving`` at it agree with ``fixed``.

    Thirion's demons (Medical Image Analysis 2 (1998) 243) over all groups at once; shapes (groups, X, Y, Z).
    """
    grid = _grid(STEP)
    half = grid[:, -1, -1, -1].reshape(3, 1, 1, 1)
    displacement = torch.zeros_like(grid)
    for _ in range(STEPS):
        position = ((grid + displacement) / half).flip(0).movedim(0, -1)[None]
        moved = F.grid_sample(moving[None], position, align_corners=True)[0]
        difference = fixed - moved
        slopes = torch.stack(torch.gradient(moved, spacing=STEP, dim=(1, 2, 3)))  # (3, groups, X, Y, Z)
        size = slopes.square().sum((0, 1)) + difference.square().sum(0) / STEP**2
        force = (slopes * difference).sum(1) / size.clamp(min=1e-4)
        displacement = displacement + blur(force[:, None], [FLUID] * 3)[:, 0]
        displacement = blur(displacement[:, None], [ELASTIC] * 3)[:, 0]
    while _steepest(displacement) > STEEPEST:
        displacement = blur(displacement[:, None], [1.0] * 3)[:, 0]
    return displacement


def _steepest(displacement: Tensor) -> float:
    return max(float(displacement.diff(dim=axis).abs().max()) / STEP for axis in (1, 2, 3))


def write_warps(maps: Sequence[Anatomy], table: ClassTable, path: str | Path, overwrite: bool = False) -> None:
    """Register label maps to the one of median size and write the warps, by the names of their files, for training.

    Args:
        maps: at least two label maps, whose names differ.
        table: their classes.
        path: file to write, some 0.7 MB a map.
        overwrite: replace an existing file.
    """
    from tqdm import tqdm

    shares = [tissue_shares(anatomy, table) for anatomy in maps]
    order = sorted(range(len(maps)), key=lambda index: float(shares[index].sum()))
    fixed = shares[order[len(order) // 2]]
    fields = {
        anatomy.name: register(fixed, own).half()
        for anatomy, own in zip(tqdm(maps, unit="warp", disable=None), shares, strict=True)
    }
    with whole_file(path, overwrite) as unfinished:
        torch.save(fields, unfinished)


class Warps:
    """The warps of a training's anatomies; those without one are left as they are.

    Args:
        path: file of :func:`write_warps`.
        names: anatomies that may be led, and lead.

    Raises:
        InputError: when the file holds no warps, or fewer than two of these anatomies.
    """

    def __init__(self, path: str | Path, names: Sequence[str]) -> None:
        found = read_checkpoint(path)
        shape = _grid(STEP).shape
        if not isinstance(found, dict) or not all(getattr(field, "shape", None) == shape for field in found.values()):
            wanted = "a file of scripts.prepare_label_maps --warps is wanted"
            raise InputError(path, "found no warps", wanted, "weights")
        self.names = [name for name in names if name in found]
        if len(self.names) < 2:
            raise InputError(path, f"found warps of {len(self.names)} of the label maps", "two are wanted", "weights")
        self.fields = {name: found[name] for name in self.names}

    def draw(self, name: str, draws: Draws) -> Warp | None:
        """Return a warp of an anatomy part of the way to a random other one, ``None`` where it has no warp."""
        if name not in self.fields:
            return None
        other = self.names[draws.integer(0, len(self.names) - 1)]
        own, led_to = (self.fields[one].to(draws.device).float() for one in (name, other))
        return between(own, led_to, draws.between(*BEYOND))


def between(own: Tensor, other: Tensor, share: float) -> Warp:
    """Return the warp that shows one anatomy in a shape between two; fields are those of :func:`register`."""
    grid = _grid(STEP).to(own.device)
    shape = Warp((1 - share) * own + share * other, STEP)
    template = grid
    for _ in range(INVERSION_STEPS):  # the template's point that comes to lie at each point of the grid
        template = grid - shape.at(template)
    return Warp(template + Warp(own, STEP).at(template) - grid, STEP)
