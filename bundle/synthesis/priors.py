"""T1-like intensity priors: mean and spread of each tissue, white matter near 0.8, fluid near 0.2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bundle.synthesis.anatomy import PART_OF, ClassTable
from bundle.synthesis.draws import Draws

# code -> (mean, standard deviation of the mean between images). The right side shares the draw of the left.
T1_MEANS = {
    0: (0.02, 0.02),
    2: (0.80, 0.05),
    3: (0.54, 0.06),
    4: (0.18, 0.06),
    5: (0.22, 0.07),
    7: (0.78, 0.05),
    8: (0.54, 0.06),
    10: (0.66, 0.06),
    11: (0.57, 0.06),
    12: (0.62, 0.06),
    13: (0.71, 0.06),
    14: (0.18, 0.06),
    15: (0.20, 0.06),
    16: (0.72, 0.06),
    17: (0.55, 0.06),
    18: (0.55, 0.06),
    24: (0.20, 0.08),
    25: (0.62, 0.10),
    26: (0.57, 0.06),
    28: (0.70, 0.06),
    30: (0.45, 0.15),
    72: (0.20, 0.06),
    85: (0.70, 0.08),
    136: (0.32, 0.12),
    137: (0.35, 0.12),
    502: (0.40, 0.20),
    506: (0.15, 0.12),
    507: (0.50, 0.18),
    508: (0.25, 0.12),
    509: (0.40, 0.20),
    511: (0.60, 0.25),
    512: (0.60, 0.20),
    514: (0.45, 0.18),
    515: (0.15, 0.10),
    516: (0.65, 0.25),
    530: (0.60, 0.15),
}
# Tissues that are alike in a scan: where they touch, intensity alone does not part them.
KINDS = {
    "grey": (3, 8, 11, 12, 17, 18, 26),
    "white": (2, 7, 13, 16, 28, 85),
    "fluid": (4, 5, 14, 15, 24, 72),
}
UNKNOWN_TISSUE = (0.45, 0.20)
RIGHT_TO_LEFT = {
    41: 2, 42: 3, 43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 58: 26, 60: 28,
    57: 25, 62: 30, 163: 136, 164: 137,
}  # fmt: skip


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
        tissues = sorted({RIGHT_TO_LEFT.get(code, code) for code in class_table.codes})
        rows = [T1_MEANS.get(tissue, T1_MEANS.get(PART_OF.get(tissue, -1), UNKNOWN_TISSUE)) for tissue in tissues]
        kind_of = {tissue: kind for kind, members in enumerate(KINDS.values()) for tissue in members}
        return cls(
            tissue_of_class=torch.tensor([tissues.index(RIGHT_TO_LEFT.get(code, code)) for code in class_table.codes]),
            kind_of_tissue=torch.tensor([kind_of.get(tissue, -1) for tissue in tissues]),
            mean=torch.tensor([mean for mean, _ in rows]),
            spread=torch.tensor([spread for _, spread in rows]),
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
