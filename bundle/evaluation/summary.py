"""What the scores of many cases come to: mean, median, and how far to trust the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.evaluation.scores import CaseScores
from bundle.labels import Label

Values = NDArray[np.float64]

METRICS = (
    *("dice", "nsd", "hd95_mm", "volume_error_percent", "absolute_volume_error_percent", "volume_error_mm3"),
    "mirrored_share",
)
"""Attributes of ``StructureScore`` that are summed up."""
BOOTSTRAP_SAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """Mean and median over the cases counted, and the bootstrap interval of the mean, NaN below two cases."""

    mean: float
    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class StructureSummary:
    """Estimates of one structure by metric; ``one_sided``: cases where only one side has it, and HD95 is infinite."""

    label: Label
    estimates: dict[str, Estimate]
    one_sided: int


@dataclass(frozen=True)
class Summary:
    """All structures in the table's order, and ``overall``: each case's mean over its structures, then the same."""

    cases: tuple[str, ...]
    structures: tuple[StructureSummary, ...]
    overall: dict[str, Estimate]


def summarise(
    cases: Sequence[CaseScores], seed: int = 0, samples: int = BOOTSTRAP_SAMPLES, confidence: float = CONFIDENCE
) -> Summary:
    """Sum up cases that one ``Scorer`` scored.

    Each bootstrap sample draws as many cases as there are, with replacement, and is shared by all structures and
    metrics, so that equal seeds give equal intervals. The interval holds the middle ``confidence`` of the means.
    ``mirrored_share`` overall is a share of all left and right voxels of a case, not a mean over structures.

    Args:
        cases: at least one.
        seed: of the bootstrap.
        samples: bootstrap samples.
        confidence: between 0 and 1.

    Raises:
        ValueError: when there is no case, or an option is out of range.
    """
    if not cases or samples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"summary: found {len(cases)} cases, {samples} samples, confidence {confidence}; "
            "at least 1, at least 1 and between 0 and 1 are wanted."
        )
    weights = bootstrap_weights(len(cases), samples, seed)
    labels = [score.label for score in cases[0].structures]
    by_metric, overall = {}, {}
    for metric in METRICS:
        values = metric_values(cases, metric)
        by_metric[metric] = estimates(values, weights, confidence)
        means = case_means(values) if metric != "mirrored_share" else np.array([case.mirrored_share for case in cases])
        overall[metric] = estimates(means[:, None], weights, confidence)[0]
    structures = tuple(
        StructureSummary(
            label,
            {metric: by_metric[metric][index] for metric in METRICS},
            sum(case.structures[index].one_sided for case in cases),
        )
        for index, label in enumerate(labels)
    )
    return Summary(tuple(case.case for case in cases), structures, overall)


def metric_values(cases: Sequence[CaseScores], metric: str) -> Values:
    """Return an attribute of every ``StructureScore``, shape (cases, structures)."""
    return np.array([[getattr(score, metric) for score in case.structures] for case in cases], dtype=np.float64)


def case_means(values: Values) -> Values:
    """Return the mean of the finite values of each row, NaN where there is none: (cases, structures) to (cases,)."""
    counted = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(counted, values, 0).sum(axis=1) / counted.sum(axis=1))


def bootstrap_weights(cases: int, samples: int, seed: int) -> Values:
    """Return how often each case is drawn in each bootstrap sample, shape (samples, cases)."""
    return np.random.default_rng(seed).multinomial(cases, np.full(cases, 1 / cases), size=samples).astype(np.float64)


def bootstrap_means(values: Values, weights: Values) -> Values:
    """Return the mean of each sample's finite values, (samples, K); NaN where a sample drew none.

    Args:
        values: shape (cases, K).
        weights: shape (samples, cases), see ``bootstrap_weights``.
    """
    counted = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray((weights @ np.where(counted, values, 0)) / (weights @ counted))


def estimates(values: Values, weights: Values, confidence: float = CONFIDENCE) -> list[Estimate]:
    """Sum up each column of values, shape (cases, K), over the cases where it is finite."""
    counted = np.isfinite(values).sum(axis=0)
    tails = 100 * (1 - confidence) / 2
    means = bootstrap_means(values, weights)
    result = []
    for column, count in enumerate(counted.tolist()):
        finite = values[np.isfinite(values[:, column]), column]
        drawn = means[np.isfinite(means[:, column]), column]
        low, high = np.percentile(drawn, [tails, 100 - tails]).tolist() if count > 1 else [float("nan")] * 2
        mean, median = (float(finite.mean()), float(np.median(finite))) if count else [float("nan")] * 2
        result.append(Estimate(mean, median, low, high, count))
    return result
