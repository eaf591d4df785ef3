"""Robust z-scores find what was put in, and nothing in a small cohort."""

from __future__ import annotations

import numpy as np

from bundle.cohort.outliers import find_outliers
from bundle.results.outliers import FEWEST


def test_outliers_are_found_though_they_are_many():
    rng = np.random.default_rng()
    numbers = (
        np.stack([np.exp(rng.normal(8, 0.05, 100)), rng.normal(0, 0.02, 100)], axis=1).clip(-0.06).astype(np.float32)
    )
    numbers[:30, 0] *= 3
    numbers[5, 1] = -0.5
    found = find_outliers(numbers, ["Left-A", "asymmetry_A"])
    assert {outlier.scan for outlier in found if outlier.measure == "Left-A"} >= set(range(30))
    assert [outlier.scan for outlier in found if outlier.measure == "asymmetry_A" and outlier.value < -0.2] == [5]
    assert np.mean([outlier.scan >= 30 for outlier in found]) < 0.2


def test_small_cohort_missing_values_and_equal_ones_have_no_outliers():
    few = np.array([[1.0]] * (FEWEST - 2) + [[9.0]], dtype=np.float32)
    assert find_outliers(few, ["Left-A"]) == []
    equal = np.array([[1.0]] * 30 + [[9.0]], dtype=np.float32)
    assert find_outliers(equal, ["Left-A"]) == []
    absent = np.concatenate([np.random.default_rng().normal(9, 1, (30, 1)), [[np.nan]], [[0.0]]]).astype(np.float32)
    assert {outlier.scan for outlier in find_outliers(absent, ["Left-A"])}.isdisjoint({30, 31})
