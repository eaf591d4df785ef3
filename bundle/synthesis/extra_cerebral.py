"""A head around a label map that holds a brain alone: fluid, meninges, skull, muscle and face, fat and skin, a cord.

Either the layers are shells around the closed surface of the brain, each of a thickness that varies over the head and
is drawn anew for each sample, or the head of a whole-head label map is stretched to the brain's extent and laid around
it. What lies inside the closed surface and has no label is fluid: the sulci. ``tests/bundle/synthesis/test_heads.py``
holds that no voxel of the brain changes, and that brain and bone never touch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from bundle.synthesis.anatomy import Anatomy, ClassTable
from bundle.synthesis.deformation import resize, smooth_field
from bundle.synthesis.draws import Draws
from bundle.synthesis.options import check_names

STEM = 16
CSF, CORD, DURA, CORTICAL, CANCELLOUS, MUSCLE, FAT, SKIN = 24, 512, 540, 515, 516, 542, 541, 511
DEEP = (507, MUSCLE, 507, 509, MUSCLE, FAT, CORTICAL, 0)
"""Between skull and fat, in patches: muscle and fat, and in the face mucosa, bone and air."""
HEAD_CODES = tuple(sorted({CSF, CORD, DURA, CORTICAL, CANCELLOUS, MUSCLE, FAT, SKIN, *DEEP}))
MARGINS = ((30.0, 30.0), (30.0, 45.0), (60.0, 28.0))
"""mm of head around a brain: left and right, back and front, below and above."""
COARSE = 3.0
"""mm between the points at which distances are computed: layers are smooth on this scale."""
CLOSING = 8.0
"""mm; wider gaps than twice this are not counted as sulci."""
CORD_RADIUS = (6.0, 4.5)
"""mm across and along y, of the cervical cord near its enlargement (13 x 9 mm)."""
UNEVEN = 0.3
"""Standard deviation of the logarithm of a layer's thickness over the head."""


@dataclass(frozen=True)
class HeadOptions:
    """How the head around a brain is made; smallest and largest mean thickness of each layer, in mm.

    The ranges hold those of adults: fluid over the hemispheres 1 to 7 mm, skull 4 to 10 mm, scalp 3 to 9 mm.

    Attributes:
        donor: probability of the head of a whole-head label map instead of shells, where there are such maps.
        csf: fluid around the closed surface of the brain.
        dura: meninges.
        skull: both tables of bone and the marrow between them.
        muscle: between skull and fat, over the vault.
        face: what the face and the neck add to it, in front below and behind below.
        fat, skin: the scalp.
    """

    donor: float = 0.5
    csf: tuple[float, float] = (1.0, 7.0)
    dura: tuple[float, float] = (0.4, 1.5)
    skull: tuple[float, float] = (4.0, 10.0)
    muscle: tuple[float, float] = (0.5, 4.0)
    face: tuple[float, float] = (25.0, 60.0)
    fat: tuple[float, float] = (1.5, 6.0)
    skin: tuple[float, float] = (1.5, 3.0)

    @classmethod
    def named(cls, options: Mapping[str, Any]) -> HeadOptions:
        """Return the options with some of them replaced by name.

        Raises:
            OptionError: when there is no option of a name.
        """
        check_names("extra_cerebral", options, cls)
        return cls(**options)


class HeadMaker:
    """Lays a head around brain-only label maps.

    Args:
        class_table: generation classes, with those of ``HEAD_CODES`` among them.
        options: how.
        donors: whole heads.
    """

    def __init__(self, class_table: ClassTable, options: HeadOptions, donors: Sequence[Anatomy] = ()) -> None:
        self.options = options
        self.donors = donors
        self.class_of = {code: number for number, code in enumerate(class_table.codes)}
        self.is_brain = class_table.is_brain

    def __call__(self, brain: Anatomy, draws: Draws) -> Anatomy:
        """Return the label map with a head around it, drawn anew."""
        edges = brain.spacing.tolist()
        pads = [[round(mm / edge) for mm in sides] for sides, edge in zip(MARGINS, edges, strict=True)]
        classes = F.pad(brain.classes, [n for sides in reversed(pads) for n in sides])
        centre = brain.brain_centre + torch.tensor([low for low, _ in pads], device=brain.brain_centre.device)
        classes = self._with_cord(classes, brain.spacing)
        depth = closed_distance(classes, brain.spacing)
        whole = replace(brain, classes=classes, brain_centre=centre)
        donor = draws.chance(self.options.donor) and len(self.donors) > 0
        if donor:
            around, there = self._donated(whole, depth, draws)
            classes = classes.masked_fill((classes == self.class_of[CORD]) & ~there, 0)  # ends where the head does
        else:
            around = self._shells(whole, depth, draws)
        around = torch.where(touched(classes > 0), self.class_of[CSF], around)
        return replace(whole, classes=torch.where(classes > 0, classes, around).to(torch.uint8))

    def _with_cord(self, classes: Tensor, spacing: Tensor) -> Tensor:
        """Lead the brain stem on downwards, straight, to the lower border."""
        stem = (classes == self.class_of.get(STEM, 255)).nonzero()
        if not len(stem):
            return classes
        edge = spacing.to(classes.device)
        low = int(stem[:, 2].min()) + round(4 / float(edge[2]))
        tip = stem[stem[:, 2] <= low].float().mean(0)
        x, y = (torch.arange(n, device=classes.device) for n in classes.shape[:2])
        across, along = ((x - tip[0]) * edge[0] / CORD_RADIUS[0], (y - tip[1]) * edge[1] / CORD_RADIUS[1])
        inside = across.square()[:, None] + along.square() <= 1
        column = classes[:, :, :low]
        column[inside[..., None] & (column == 0)] = self.class_of[CORD]
        return classes

    def _shells(self, head: Anatomy, depth: Tensor, draws: Draws) -> Tensor:
        """Return the classes of layers around the closed surface, shape of the label map."""
        options, size = self.options, list(depth.shape)
        skull = draws.between(*options.skull)
        marrow = draws.between(0.2, 0.5)
        vault = draws.between(*options.muscle)
        thickness = [draws.between(*options.csf), draws.between(*options.dura)]
        thickness += [skull * (1 - marrow) / 2, skull * marrow, skull * (1 - marrow) / 2, vault]
        thickness += [draws.between(*options.fat), draws.between(*options.skin)]
        # How many layers lie between a point and the brain; whole numbers are their borders.
        layer, rest = torch.zeros_like(depth), depth
        for number, mean in enumerate(thickness):
            layer_mm = mean * (UNEVEN * smooth_field(draws, 1, size, [5, 5, 5])[0]).exp()
            if number == 5:
                layer_mm = layer_mm + draws.between(*options.face) * face_share(head, depth)
            layer = layer + (rest / layer_mm).clamp(0, 1)
            rest = rest - layer_mm
        shape = list(head.classes.shape)
        level = resize(layer[None, None], shape)[0, 0].to(torch.uint8)
        codes = [CSF, DURA, CORTICAL, CANCELLOUS, CORTICAL, MUSCLE, FAT, SKIN, 0]
        result = self._lookup(codes, draws)[level.int()]
        patches = resize(draws.normal((1, 1, *[max(3, n * 3 // 12) for n in size])), shape)[0, 0]
        patches = ((patches + 3) * (len(DEEP) / 6)).clamp(0, len(DEEP) - 1).to(torch.uint8)
        return torch.where(level == 5, self._lookup(DEEP, draws)[patches.int()], result)

    def _donated(self, head: Anatomy, depth: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return the classes of another's head, stretched so that the brains have the same extent, and where it is."""
        donor = self.donors[draws.integer(0, len(self.donors) - 1)]
        is_brain = self.is_brain.to(draws.device)
        ends = [_extent(is_brain[anatomy.classes.int()]) for anatomy in (head, donor)]
        index = []
        for axis, ((low, high), (other_low, other_high)) in enumerate(zip(*ends, strict=True)):
            voxels = torch.arange(head.classes.shape[axis], device=draws.device)
            found = other_low + (voxels - low) * (other_high - other_low) / (high - low)
            length = donor.classes.shape[axis]
            index.append((found.round().long().clamp(0, length - 1), (found > -0.5) & (found < length - 0.5)))
        (x, there_x), (y, there_y), (z, there_z) = index
        there = there_x[:, None, None] & there_y[:, None] & there_z
        taken: Tensor = donor.classes[x[:, None, None], y[:, None], z] * there
        becomes = torch.where(is_brain, self.class_of[CSF], torch.arange(len(is_brain), device=draws.device))
        if STEM in self.class_of:
            becomes[self.class_of[STEM]] = self.class_of[CORD]  # a longer brain stem than this map's
        fluid = depth < draws.between(1.0, 3.0)  # the donor's bone keeps away from the brain
        fluid_at: Tensor = resize(fluid.float()[None, None], list(head.classes.shape))[0, 0] > 0.5
        return torch.where(fluid_at, self.class_of[CSF], becomes[taken.int()]).to(torch.uint8), there

    def _lookup(self, codes: Sequence[int], draws: Draws) -> Tensor:
        return torch.tensor([self.class_of[code] for code in codes], dtype=torch.uint8, device=draws.device)


def touched(mask: Tensor) -> Tensor:
    """Return a mask (X, Y, Z) with the voxels that share a face with it."""
    grown = mask.clone()
    for axis in range(3):
        length = mask.shape[axis] - 1
        grown.narrow(axis, 1, length).logical_or_(mask.narrow(axis, 0, length))
        grown.narrow(axis, 0, length).logical_or_(mask.narrow(axis, 1, length))
    return grown


def closed_distance(classes: Tensor, spacing: Tensor) -> Tensor:
    """Return the distance in mm to the brain without its sulci, negative inside, at points ``COARSE`` apart."""
    steps = [max(1, round(COARSE / edge)) for edge in spacing.tolist()]
    share = F.avg_pool3d((classes > 0)[None, None].float(), steps, ceil_mode=True)[0, 0]
    edges = [step * edge for step, edge in zip(steps, spacing.tolist(), strict=True)]
    brain = (share > 0.3).cpu().numpy()
    grown = distance_transform_edt(~brain, edges) <= CLOSING
    closed = (distance_transform_edt(np.pad(grown, 1, mode="edge"), edges)[1:-1, 1:-1, 1:-1] > CLOSING) | brain
    outside = distance_transform_edt(~closed, edges) - distance_transform_edt(closed, edges)
    return torch.from_numpy(outside.astype(np.float32)).to(classes.device)


def face_share(head: Anatomy, depth: Tensor) -> Tensor:
    """Return how much of the face, or neck, lies in the direction of each coarse point, 0 to 1, shape of ``depth``."""
    axes = [torch.linspace(0, n - 1, m) for n, m in zip(head.classes.shape, depth.shape, strict=True)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).to(depth.device)
    offset = (grid - head.brain_centre.reshape(3, 1, 1, 1)) * head.spacing.reshape(3, 1, 1, 1)
    direction = offset / offset.norm(dim=0).clamp(min=1)
    face = 0.55 * direction[1] - 0.83 * direction[2]
    neck = -0.45 * direction[1] - 0.89 * direction[2]
    shares = ((face - 0.4) / 0.4).clamp(0, 1), 0.6 * ((neck - 0.6) / 0.3).clamp(0, 1)
    return torch.maximum(*shares)


def _extent(mask: Tensor) -> list[tuple[int, int]]:
    """Return the first and last filled index along each axis."""
    filled = [mask.any(dim=last).any(dim=first).nonzero() for first, last in ((1, 2), (0, 2), (0, 1))]
    return [(int(indices[0]), int(indices[-1])) for indices in filled]
