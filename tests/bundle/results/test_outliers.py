"""What stands out of a cohort is found whatever the outliers are."""

from __future__ import annotations

import numpy as np
from scipy import stats

from bundle.results.outliers import FEWEST, LIMIT, robust_z


def test_normal_data_have_their_own_deviation():
    values = np.random.default_rng().normal(50, 3, 20000)
    assert np.abs(robust_z(values, logarithms=False) - (values - 50) / 3).max() < 0.3


def test_a_few_wild_values_do_not_hide_one_another():
    values = np.exp(np.random.default_rng().normal(0, 0.1, 60))
    values[:8] *= 100
    assert (np.flatnonzero(np.abs(robust_z(values, logarithms=True)) > LIMIT + 10) == np.arange(8)).all()


def test_half_and_double_lie_equally_far_off():
    values = np.exp(np.linspace(-0.2, 0.2, 21))
    z = robust_z(np.append(values, [0.5, 2.0]), logarithms=True)
    assert np.isclose(z[-1], -z[-2])


def test_too_few_equal_or_missing_values_have_none():
    assert np.isnan(robust_z(np.arange(1.0, FEWEST), logarithms=False)).all()
    assert np.isnan(robust_z(np.array([5.0] * 20 + [9.0]), logarithms=False)).all()
    z = robust_z(np.array([0.0, np.nan, *np.arange(1.0, 20.0)]), logarithms=True)
    assert np.isnan(z[:2]).all()
    assert np.isfinite(z[2:]).all()


def test_score_is_that_of_scipys_median_deviation():
    values = np.random.default_rng(1).normal(5, 2, 200)
    expected = (values - np.median(values)) / stats.median_abs_deviation(values, scale="normal")
    np.testing.assert_allclose(robust_z(values, logarithms=False), expected, rtol=1e-4)
