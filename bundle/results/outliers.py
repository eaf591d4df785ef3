"""Scans that stand out of the others they were segmented with, by a z-score that outliers do not move.

z = (x - median) / (1.4826 MAD); beyond 3.5 is suspicious (Iglewicz and Hoaglin, How to Detect and Handle Outliers,
1993). Volumes are compared by their logarithm, since ventricles are skewed (``bundle.results.reference``), asymmetries
as they are. ``tests/bundle/results/test_outliers.py`` holds it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LIMIT = 3.5
CONSISTENT = 1.4826
"""MAD times this is the standard deviation of normal data."""
FEWEST = 10
"""Scans: of fewer, the MAD is itself off by a third or more (its standard error is 1.17 SD / sqrt(n))."""


def robust_z(values: NDArray[np.float64], logarithms: bool) -> NDArray[np.float64]:
    """Return how far each value lies off the median of all, in robust standard deviations, shape (scans,).

    NaN where there is no value, and everywhere where the values are fewer than ``FEWEST`` or half of them are equal.

    Args:
        values: shape (scans,), NaN for what is not there.
        logarithms: compare logarithms; a value of 0 is then none, which has a flag of its own.
    """
    if logarithms:
        values = np.log(np.where(values > 0, values, np.nan))
    known = values[np.isfinite(values)]
    nothing = np.full(values.shape, np.nan)
    if known.size < FEWEST:
        return nothing
    median = float(np.median(known))
    spread = CONSISTENT * float(np.median(np.abs(known - median)))
    return (values - median) / spread if spread > 0 else nothing
