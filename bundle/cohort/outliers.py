"""Scans that stand out of their own cohort, by the rule of ``bundle.results.outliers``.

``tests/bundle/cohort/test_cohort_outliers.py`` holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.cohort.table import ASYMMETRY
from bundle.results.outliers import LIMIT, robust_z


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
        z = robust_z(values, logarithms=not measure.startswith(ASYMMETRY))
        median = float(np.nanmedian(values)) if np.isfinite(z).any() else 0.0
        for scan in np.flatnonzero(np.abs(z) > LIMIT):
            found.append(Outlier(int(scan), measure, float(values[scan]), median, round(float(z[scan]), 2)))
    return sorted(found, key=lambda outlier: (outlier.scan, -abs(outlier.z)))
