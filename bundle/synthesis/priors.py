"""Intensity priors: mean and spread of each tissue in the images to be drawn, as the tissue table has them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bundle.synthesis.anatomy import ClassTable
from bundle.synthesis.draws import Draws
from bundle.synthesis.tissues import KINDS


@dataclass(frozen=True)
class TissuePriors:
    """Means and spreads by tissue, the tissue of each generation class, and the kind of each tissue, -1 for none."""

    tissue_of_class: Tensor
    kind_of_tissue: Tensor
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
