"""Scans that stand out of their own cohort, by a z-score that outliers do not move.

z = (x - median) / (1.4826 MAD), and beyond 3.5 is suspicious: Iglewicz and Hoaglin, How to Detect and Handle Outliers,
1993. Volumes are compared by their logarithm, since ventricles are skewed (``bundle.results.reference``), asymmetries
as they are. ``tests/bundle/cohort/test_outliers.py`` holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.cohort.table import ASYMMETRY

LIMIT = 3.5
CONSISTENT = 1.4826
"""MAD times this is the standard deviation of normal data."""
FEWEST = 10
"""Scans: of fewer, the MAD is itself off by a third or more (its standard error is 1.17 SD / sqrt(n))."""


@dataclass(frozen=True)
class Outlier:
    """A number that stands out.

    Attributes:
        scan: number of the line in the table.
        measure: name of the column.
        value: what was found, in the unit of the column.
        median: of the cohort.
        z: how far off it lies.
    """

    scan: int
    measure: str
    value: float
    median: float
    z: float


def find_outliers(numbers: NDArray[np.float32], measures: Sequence[str]) -> list[Outlier]:
    """Return what stands out, scan by scan.

    Args:
        numbers: shape (scans, measures), NaN for what is not there.
        measures: names of the columns.
    """
    found = []
    for column, measure in enumerate(measures):
        values = numbers[:, column].astype(np.float64)
        z = robust_z(values if measure.startswith(ASYMMETRY) else _logarithms(values))
        median = float(np.nanmedian(values)) if np.isfinite(z).any() else 0.0
        for scan in np.flatnonzero(np.abs(z) > LIMIT):
            found.append(Outlier(int(scan), measure, float(values[scan]), median, round(float(z[scan]), 2)))
    return sorted(found, key=lambda outlier: (outlier.scan, -abs(outlier.z)))


def robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the z-score of each value against all of them, shape (scans,).

    NaN where there is no value, and everywhere when the values are fewer than ``FEWEST`` or half of them are equal.
    """
    known = values[np.isfinite(values)]
    if known.size < FEWEST:
        return np.full(values.shape, np.nan)
    median = np.median(known)
    spread = CONSISTENT * np.median(np.abs(known - median))
    if spread <= 0:
        return np.full(values.shape, np.nan)
    z: NDArray[np.float64] = (values - median) / spread
    return z


def _logarithms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return logarithms, NaN for what was not found: a missing structure has a flag of its own."""
    logarithms: NDArray[np.float64] = np.log(np.where(values > 0, values, np.nan))
    return logarithms
