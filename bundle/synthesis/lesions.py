"""Lesions in training samples: resection cavities, tumours, lesions of the white matter, large ventricles.

Structures keep their labels under a tumour or a lesion, whose intensity alone is another, so that the network learns to
go on with what it sees around; a tumour may also push aside what surrounds it. A cavity is fluid in the image and in
the labels. ``tests/bundle/synthesis/test_lesions.py`` holds each of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bundle.synthesis.anatomy import Anatomy, ClassTable
from bundle.synthesis.deformation import Bulge, resize
from bundle.synthesis.draws import Draws
from bundle.synthesis.extra_cerebral import touched
from bundle.synthesis.options import SynthesisOptions

CAVITY_RADIUS = (8.0, 30.0)
TUMOUR_RADIUS = (5.0, 25.0)
"""mm; resections and gliomas of 1 to 6 cm across."""
RAGGED = 0.25
"""Standard deviation of a border's distance from its centre, as a share of the radius."""
LESION_POINTS = 4.0
"""mm between the control points of white matter lesions: single ones are 2 to 8 mm wide and flow together."""
LARGEST_GROWTH = 5
"""Voxels of the label map that ventricles may grow by."""
WHITE_LOSS = (0.1, 0.45)
"""What a white matter lesion takes off its intensity, on the scale where white matter is near 0.8."""


@dataclass(frozen=True)
class Blob:
    """A ragged ball: centre in mm from the brain's centre, mean radius in mm, and what it is."""

    kind: str
    centre: Tensor
    radius: float
    seed: int


@dataclass(frozen=True)
class LesionPlan:
    """The lesions of a sample, known before it is deformed, and what of them pushes tissue aside."""

    blobs: list[Blob] = field(default_factory=list)
    bulges: list[Bulge] = field(default_factory=list)


def plan_lesions(label_map: Anatomy, table: ClassTable, draws: Draws, options: SynthesisOptions) -> LesionPlan:
    """Draw where cavities and tumours lie; nothing is drawn for kinds whose probability is 0."""
    plan = LesionPlan()
    for kind, probability, radii in (
        ("cavity", options.cavities, CAVITY_RADIUS),
        ("tumour", options.tumours, TUMOUR_RADIUS),
    ):
        if probability > 0 and draws.chance(probability):
            centre, radius = _place(label_map, table, draws), draws.between(*radii)
            if kind == "tumour" and draws.chance(0.5):
                amount = draws.between(0.2, 0.6)
                plan.bulges.append(Bulge(centre, amount, radius))
                radius *= 1 - amount  # it is magnified with what it lies in
            plan.blobs.append(Blob(kind, centre, radius, draws.integer(0, 2**31 - 1)))
    return plan


def _place(label_map: Anatomy, table: ClassTable, draws: Draws) -> Tensor:
    """Return a place in the cerebrum's white matter or cortex, or near them, in mm from the brain's centre, (3,)."""
    wanted = [code for role in ("white matter", "cortex") for code in table.tissues.with_role(role)]
    numbers = torch.tensor([number for number, code in enumerate(table.codes) if code in wanted])
    inside = torch.isin(label_map.classes[::4, ::4, ::4].cpu(), numbers.to(torch.uint8)).nonzero()
    if not len(inside):
        return torch.zeros(3)
    voxel = 4.0 * inside[draws.integer(0, len(inside) - 1)]
    return (voxel - label_map.brain_centre.cpu()) * label_map.spacing.cpu()


def blob_weight(blob: Blob, shape: list[int], centre: Tensor, spacing: Tensor, grow: float = 1.0) -> Tensor | None:
    """Return how far inside a ragged ball each voxel lies, in radii: positive inside; ``None`` where none does.

    Args:
        blob: the ball.
        shape: voxels of the label map.
        centre: voxel of the label map that is the brain's centre.
        spacing: edges of its voxels in mm.
        grow: makes the ball larger.
    """
    draws = Draws(blob.seed, centre.device)
    edge, radius = spacing, blob.radius * grow
    at = centre + blob.centre.to(centre.device) / edge
    reach = 1.8 * radius
    axes = [(torch.arange(n, device=centre.device) - at[axis]) * edge[axis] for axis, n in enumerate(shape)]
    if any(bool((axis.abs() > reach).all()) for axis in axes):
        return None
    noise = draws.normal((1, 1, 5, 5, 5))
    box = [(axis.abs() <= reach).nonzero()[:, 0] for axis in axes]
    spans = [slice(int(index[0]), int(index[-1]) + 1) for index in box]
    x, y, z = (axis[span].square() for axis, span in zip(axes, spans, strict=True))
    distance = (x[:, None, None] + y[:, None] + z).sqrt() / radius
    weight = torch.full(shape, -1.0, device=centre.device)
    weight[tuple(spans)] = 1 - distance + RAGGED * resize(noise, list(distance.shape))[0, 0]
    return weight


def cut_cavities(classes: Tensor, plan: LesionPlan, centre: Tensor, spacing: Tensor, table: ClassTable) -> Tensor:
    """Return the classes with fluid where cavities are; the skull and what is outside it stay."""
    fluid = next((number for number, code in enumerate(table.codes) if code == 24), None)
    for blob in plan.blobs:
        if blob.kind != "cavity" or fluid is None:
            continue
        weight = blob_weight(blob, list(classes.shape), centre, spacing)
        if weight is not None:
            inside = table.is_brain.to(classes.device)[classes.int()] & (weight > 0)
            classes = torch.where(inside, fluid, classes).to(classes.dtype)
    return classes


def grow_ventricles(classes: Tensor, table: ClassTable, steps: int) -> Tensor:
    """Let the lateral ventricles take the white matter next to them, by a voxel a step."""
    numbers = {code: number for number, code in enumerate(table.codes)}
    white = torch.tensor([code in table.tissues.with_role("white matter") for code in table.codes])
    is_white = white.to(classes.device)[classes.int()]
    for code in (4, 43):
        if code not in numbers:
            continue
        grown = classes == numbers[code]
        for _ in range(steps):
            grown |= touched(grown) & is_white
        classes = torch.where(grown & is_white, numbers[code], classes).to(classes.dtype)
    return classes


def paint_tumours(
    painted: Tensor, classes: Tensor, plan: LesionPlan, centre: Tensor, spacing: Tensor, table: ClassTable, draws: Draws
) -> Tensor:
    """Return the intensities with tumours: oedema in white matter, a body, sometimes a bright rim and a dark core."""
    for blob in plan.blobs:
        weight = blob_weight(blob, list(classes.shape), centre, spacing) if blob.kind == "tumour" else None
        if weight is None:
            continue
        brain = table.is_brain.to(classes.device)[classes.int()]
        if draws.chance(0.5):
            around = blob_weight(blob, list(classes.shape), centre, spacing, grow=1.7)
            if around is not None:
                oedema = (around > 0) & _with_roles(classes, table, ["white matter"])
                painted = torch.where(oedema, painted * draws.between(0.6, 0.9), painted)
        body = draws.between(0.2, 0.75)
        grain = 0.05 * draws.voxel_noise(weight.shape)
        painted = torch.where(brain & (weight > 0), body + grain, painted)
        if draws.chance(0.4):
            painted = torch.where(brain & (weight > 0) & (weight < 0.25), draws.between(0.8, 1.3) + grain, painted)
        if draws.chance(0.4):
            painted = torch.where(brain & (weight > draws.between(0.3, 0.6)), draws.between(0.1, 0.4) + grain, painted)
    return painted


def paint_white_matter_lesions(
    painted: Tensor, classes: Tensor, spacing: Tensor, table: ClassTable, draws: Draws
) -> Tensor:
    """Return the intensities with patches of darker white matter, most of them beside the ventricles."""
    white = _with_roles(classes, table, ["white matter"])
    shape = list(classes.shape)
    mm = [n * edge for n, edge in zip(shape, spacing.tolist(), strict=True)]
    spots = resize(draws.normal((1, 1, *[max(3, round(length / LESION_POINTS)) for length in mm])), shape)[0, 0]
    x, y, z = (max(2, round(length / 6)) for length in mm)
    near = torch.nn.functional.adaptive_avg_pool3d(
        _with_roles(classes, table, ["ventricle"])[None, None].float(), (x, y, z)
    )
    near = torch.nn.functional.avg_pool3d(near, 3, stride=1, padding=1)
    score = spots + 2.5 * resize(near, shape)[0, 0].clamp(max=0.4)
    # A threshold of 2.2 leaves specks beside the ventricles, one of 0.9 caps and confluent patches.
    depth = ((score - draws.between(0.9, 2.2)) * 4).clamp(0, 1) * white
    return painted - depth * draws.between(*WHITE_LOSS) * painted / 0.8


def _with_roles(classes: Tensor, table: ClassTable, roles: list[str]) -> Tensor:
    has = torch.tensor([table.tissues[code].role in roles for code in table.codes], device=classes.device)
    return has[classes.int()]
