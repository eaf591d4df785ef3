"""What scans show beside anatomy and noise: bright scalp, contrast agent, coil fields, low field, ghosts of motion.

Each has its probability among the options; at 0 no number is drawn, so that the samples of older settings stay what
they were (``tests/bundle/synthesis/test_artefacts.py``).
"""

from __future__ import annotations

from dataclasses import replace
from math import log

import torch
from torch import Tensor

from bundle.synthesis.anatomy import ClassTable
from bundle.synthesis.draws import Draws
from bundle.synthesis.options import SynthesisOptions

WHITE = 2
ENHANCING = (136, 137, 163, 164, 509)
"""Codes without the role of a vessel that take up contrast agent: choroid plexus and mucosa."""
LOW_FIELD = {"noise": 0.16, "plane_spacing": (1.5, 2.5), "slice_spacing": (3.0, 6.0), "thick_slices": 0.8, "blur": 0.8}
"""Voxels, slices and noise of scans at 0.05 to 0.3 T, which take two to ten minutes."""


def low_field(draws: Draws, options: SynthesisOptions) -> SynthesisOptions:
    """Return the options of a sample, now and then those of a weak magnet."""
    weak = options.low_field > 0 and draws.chance(options.low_field)
    return replace(options, **LOW_FIELD) if weak else options  # type: ignore[arg-type]


def brighten(
    means: Tensor, tissue_of_class: Tensor, table: ClassTable, draws: Draws, options: SynthesisOptions
) -> Tensor:
    """Return the intensities of the tissues, now and then with a bright scalp or a contrast agent.

    Args:
        means: intensity of each tissue, shape (tissues,).
        tissue_of_class: tissue of each class.
        table: the classes.
        draws: source of the random numbers.
        options: probabilities.
    """
    roles = [table.tissues[code].role for code in table.codes]
    if options.bright_scalp > 0 and draws.chance(options.bright_scalp):
        white = float(means[_tissues([code == WHITE for code in table.codes], tissue_of_class)].mean())
        scalp = _tissues([role == "scalp" for role in roles], tissue_of_class)
        means[scalp] = white * draws.between(1.0, options.scalp_gain)
    if options.contrast_agent > 0 and draws.chance(options.contrast_agent):
        enhancing = [role == "vessel" or code in ENHANCING for role, code in zip(roles, table.codes, strict=True)]
        for tissue in _tissues(enhancing, tissue_of_class).tolist():
            means[tissue] = draws.between(0.8, 1.6)
    return means


def _tissues(wanted: list[bool], tissue_of_class: Tensor) -> Tensor:
    found: Tensor = tissue_of_class[torch.tensor(wanted)].unique()
    return found


def coil_field(size: list[int], spacing: float, draws: Draws, options: SynthesisOptions) -> Tensor:
    """Return the sensitivity of one to three coils beside the head, 1 where it is least, shape (X, Y, Z).

    That of a loop falls with the square of the distance once this is larger than the loop.
    """
    axes = [(torch.arange(n, device=draws.device) - (n - 1) / 2) * spacing for n in size]
    field = torch.zeros(size, device=draws.device)
    for _ in range(draws.integer(1, 3)):
        direction = draws.normal((3,))
        direction = direction / direction.norm().clamp(min=1e-3) * draws.between(90.0, 130.0)
        x, y, z = ((axis - at).square() for axis, at in zip(axes, direction, strict=True))
        field = field + 1 / (1 + (x[:, None, None] + y[:, None] + z) / draws.between(40.0, 80.0) ** 2)
    field = field / field.amin()
    span = max(float(field.amax().log()), 1e-3)
    gain: Tensor = torch.pow(field, log(draws.between(1.5, options.coil_gain)) / span)
    return gain


def add_ghosts(image: Tensor, draws: Draws, options: SynthesisOptions) -> Tensor:
    """Return an image (X, Y, Z) with faint copies of itself along a random axis, of alternating sign."""
    axis = draws.integer(0, 2)
    step = max(1, round(image.shape[axis] * draws.between(0.05, 0.5)))
    share, sign = draws.positive(options.ghost_share), 1 if draws.chance(0.5) else -1
    ghosts = torch.zeros_like(image)
    for number in (1, 2):
        for shift in (number * step, -number * step):
            ghosts += share * sign**number / number**2 * image.roll(shift, axis)
    return (image + ghosts).abs()
