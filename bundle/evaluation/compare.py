"""Two sets of predictions for the same cases: do they differ, and by how much?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from bundle.errors import InputError
from bundle.evaluation.scores import CaseScores
from bundle.evaluation.summary import (
    BOOTSTRAP_SAMPLES,
    CONFIDENCE,
    Estimate,
    bootstrap_weights,
    case_means,
    estimates,
    metric_values,
)
from bundle.labels import Label

COMPARED_METRICS = ("dice", "nsd", "hd95_mm")


@dataclass(frozen=True)
class Difference:
    """First set minus second, over the cases where both are finite.

    Attributes:
        label: the structure, or None for the means over structures.
        difference: mean, median and interval of the differences.
        p_value: two-sided Wilcoxon signed-rank test; 1 where nothing differs, NaN without a case.
        p_holm: the same after Holm's correction over the structures; equal to ``p_value`` for the means.
    """

    label: Label | None
    difference: Estimate
    p_value: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """The test of one metric: per-case means first, then each structure.

    ``smallest_p`` is what the exact test can reach with this number of cases: with 5 or fewer it stays above 0.05.
    """

    metric: str
    overall: Difference
    structures: tuple[Difference, ...]
    smallest_p: float


def compare(
    first: Sequence[CaseScores],
    second: Sequence[CaseScores],
    metric: str = "dice",
    seed: int = 0,
    samples: int = BOOTSTRAP_SAMPLES,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare two sets of predictions, case by case.

    Args:
        first: scores of one set.
        second: scores of the other, of the same cases and structures in the same order.
        metric: an attribute of ``StructureScore``.
        seed: of the bootstrap over cases.
        samples: bootstrap samples.
        confidence: of the intervals.

    Raises:
        InputError: when the cases or structures differ.
    """
    cases = [[case.case for case in side] for side in (first, second)]
    codes = [[score.label.code for case in side for score in case.structures] for side in (first, second)]
    if not first or cases[0] != cases[1] or codes[0] != codes[1]:
        found = f"found the cases {cases[0]} and {cases[1]}"
        raise InputError("comparison", found, "the same, alike scored, are wanted", "pairs")
    values = [metric_values(side, metric) for side in (first, second)]
    means = case_means(values[0]) - case_means(values[1])
    with np.errstate(invalid="ignore"):  # inf - inf: a structure that both sets missed
        differences = np.column_stack([means, values[0] - values[1]])
    weights = bootstrap_weights(len(first), samples, seed)
    summed_up = estimates(differences, weights, confidence)
    p_values = [signed_rank(column) for column in differences.T]
    p_holm = [p_values[0], *holm(p_values[1:])]
    labels = [None, *(score.label for score in first[0].structures)]
    overall, *structures = (Difference(*row) for row in zip(labels, summed_up, p_values, p_holm, strict=True))
    return Comparison(metric, overall, tuple(structures), min(1.0, 2.0 ** (1 - summed_up[0].count)))


def signed_rank(differences: NDArray[np.float64]) -> float:
    """Return the p-value of the two-sided Wilcoxon signed-rank test; differences that are not finite are left out."""
    finite = differences[np.isfinite(differences)]
    if not finite.any():
        return 1.0 if finite.size else float("nan")
    return float(wilcoxon(finite).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values after Holm's step-down correction (Scand. J. Statist. 6, 1979, 65-70); NaN counts as no test."""
    corrected = np.full(len(p_values), np.nan)
    tested = [index for index in np.argsort(p_values).tolist() if np.isfinite(p_values[index])]
    largest = 0.0
    for rank, index in enumerate(tested):
        largest = max(largest, min(1.0, p_values[index] * (len(tested) - rank)))
        corrected[index] = largest
    return corrected.tolist()
