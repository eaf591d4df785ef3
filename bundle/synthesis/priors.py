"""Intensity priors: mean and spread of each tissue in the images to be drawn, as the tissue table has them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bundle.synthesis.anatomy import ClassTable
from bundle.synthesis.draws import Draws
from bundle.synthesis.tissues import FIRST_HEAD_CODE, KINDS

STEP = (0.1, 0.6)
"""How far white matter is from grey matter in a contrast drawn by kind, and the brightest fluid from these: less would
show no border."""
DARKEST = 0.1
"""Intensity of the darkest tissue of the brain in one."""
WHITE_IS_BRIGHTER = 0.25
"""Probability that white matter is the brighter one, as in T1: it is the darker one in T2, PD, FLAIR and CT."""
FLUID_IS_BRIGHTEST, FLUID_IS_DARKEST = 0.45, 0.35
"""Probabilities that fluid is brighter than both, as in T2, or darker, as in T1, FLAIR, CT; else it is anywhere."""


@dataclass(frozen=True)
class TissuePriors:
    """What tissues look like, and which classes are of them.

    Attributes:
        tissue_of_class: tissue of each generation class.
        kind_of_tissue: kind of each tissue, -1 for none.
        place: where each tissue lies: 0 air, 1 inside the skull, 2 elsewhere in the head.
        mean, spread: of each tissue's intensity.
    """

    tissue_of_class: Tensor
    kind_of_tissue: Tensor
    place: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def t1(cls, class_table: ClassTable) -> TissuePriors:
        """Return the T1-like priors for the classes of ``class_table``."""
        source_of = [class_table.tissues[code].source for code in class_table.codes]
        sources = sorted(set(source_of))
        tissues = [class_table.tissues[source] for source in sources]
        return cls(
            tissue_of_class=torch.tensor([sources.index(source) for source in source_of]),
            kind_of_tissue=torch.tensor([KINDS.index(tissue.kind) if tissue.kind else -1 for tissue in tissues]),
            place=torch.tensor([0 if source == 0 else 1 if source < FIRST_HEAD_CODE else 2 for source in sources]),
            mean=torch.tensor([tissue.mean for tissue in tissues]),
            spread=torch.tensor([tissue.sd for tissue in tissues]),
        )

    def draw(self, draws: Draws, shared: float) -> Tensor:
        """Return a mean for each tissue, shape (tissues,).

        Args:
            draws: source of the random numbers.
            shared: share of a mean's variance that all tissues of a kind have in common, 0 to 1.
        """
        own, common = draws.normal((len(self.mean),)), draws.normal((len(KINDS),))
        kind = self.kind_of_tissue.to(draws.device)
        mixed = shared**0.5 * common[kind.clamp(min=0)] + (1 - shared) ** 0.5 * own
        return self.mean.to(draws.device) + torch.where(kind < 0, own, mixed) * self.spread.to(draws.device)

    def draw_contrast(self, draws: Draws, shared: float, by_kind: float) -> Tensor:
        """Return a mean for each tissue in a contrast drawn anew, shape (tissues,).

        Either every tissue is drawn for itself, or grey matter, white matter and fluid are, as sequences change them:
        other tissues inside the skull then keep their place between these, and air stays dark.

        Args:
            draws: source of the random numbers.
            shared: as of ``draw``.
            by_kind: probability of the latter.
        """
        means = draws.uniform((len(self.mean),), 0.5) + 0.5
        anchors = self._anchors().to(means.device)
        if not by_kind or not draws.chance(by_kind) or not bool((anchors.diff() > 0).all()):
            return means
        usual = self.draw(draws, shared)
        levels = _draw_levels(draws).to(usual.device)
        place = self.place.to(usual.device)
        return torch.where(place == 0, usual, torch.where(place == 1, _interpolate(usual, anchors, levels), means))

    def _anchors(self) -> Tensor:
        """Return usual intensities of fluid, cortex and white matter; not numbers where a kind is missing."""
        of_kind = (self.mean[self.kind_of_tissue == KINDS.index(kind)] for kind in ("fluid", "grey", "white"))
        fluid, grey, white = (found if len(found) else torch.tensor([torch.nan]) for found in of_kind)
        return torch.stack([fluid.mean(), grey.min(), white.max()])


def _draw_levels(draws: Draws) -> Tensor:
    """Draw intensities of fluid, grey matter and white matter, 0 to 1."""
    step = draws.between(*STEP)
    darker = draws.between(DARKEST, 1.0 - step)
    tissues = [darker, darker + step] if draws.chance(WHITE_IS_BRIGHTER) else [darker + step, darker]
    chance = draws.positive(1.0)
    if chance < FLUID_IS_BRIGHTEST:
        fluid = max(tissues) + draws.between(*STEP)
    else:
        fluid = draws.positive(0.8 * darker if chance < FLUID_IS_BRIGHTEST + FLUID_IS_DARKEST else 1.0)
    levels = torch.tensor([fluid, *tissues])
    return levels / levels.max().clamp(min=1.0)


def _interpolate(values: Tensor, places: Tensor, levels: Tensor) -> Tensor:
    """Interpolate linearly between levels at ascending places, shape of ``values``; beyond them nothing changes."""
    right = torch.bucketize(values, places).clamp(1, len(places) - 1)
    share = (values - places[right - 1]) / (places[right] - places[right - 1])
    return levels[right - 1].lerp(levels[right], share.clamp(0, 1))
