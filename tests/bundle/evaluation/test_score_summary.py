"""Means, medians and bootstrap intervals over cases, and two sets of predictions compared."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import bootstrap, wilcoxon

from bundle.evaluation import CaseScores, Scorer, StructureScore, compare, summarise
from bundle.evaluation.compare import holm
from bundle.evaluation.summary import bootstrap_weights, estimates
from bundle.labels import read_labels

LABELS = read_labels()[1:]


def cases_of(dice: np.ndarray, **metrics: np.ndarray) -> list[CaseScores]:
    """Return cases with the given values, shape (cases, structures)."""
    metrics = {"dice": dice, **metrics}
    return [
        CaseScores(
            f"case{row}",
            tuple(
                StructureScore(LABELS[column], **{name: float(values[row, column]) for name, values in metrics.items()})
                for column in range(dice.shape[1])
            ),
        )
        for row in range(len(dice))
    ]


def test_mean_and_median_by_structure_and_over_all():
    dice = np.random.default_rng().random((7, 4))
    summary = summarise(cases_of(dice), samples=50)
    for column, row in enumerate(summary.structures):
        assert row.label is LABELS[column]
        assert row.estimates["dice"].mean == pytest.approx(dice[:, column].mean())
        assert row.estimates["dice"].median == pytest.approx(np.median(dice[:, column]))
        assert row.estimates["dice"].count == 7
    assert summary.overall["dice"].mean == pytest.approx(dice.mean())
    assert summary.overall["dice"].median == pytest.approx(np.median(dice.mean(axis=1)))
    assert summary.cases == tuple(f"case{row}" for row in range(7))


def test_what_is_not_finite_is_not_counted():
    dice = np.array([[0.5, np.nan], [0.7, 0.2], [0.9, np.nan]])
    hd95 = np.array([[1.0, np.nan], [3.0, np.inf], [np.inf, np.nan]])
    summary = summarise(cases_of(dice, hd95_mm=hd95), samples=200)
    first, second = summary.structures
    assert (second.estimates["dice"].mean, second.estimates["dice"].count) == (0.2, 1)
    assert np.isnan(second.estimates["dice"].low)
    assert (first.estimates["hd95_mm"].mean, first.estimates["hd95_mm"].count) == (2, 2)
    assert second.estimates["hd95_mm"].count == 0
    assert np.isnan(second.estimates["hd95_mm"].mean)
    assert summary.overall["dice"].mean == pytest.approx(np.mean([0.5, 0.45, 0.9]))


def test_interval_is_a_percentile_bootstrap_over_cases():
    values = np.random.default_rng(3).normal(size=(25, 1))
    (found,) = estimates(values, bootstrap_weights(25, 20_000, seed=1))
    wanted = bootstrap(
        (values[:, 0],), np.mean, n_resamples=20_000, method="percentile", random_state=2
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.02)
    (narrow,) = estimates(values, bootstrap_weights(25, 20_000, seed=1), confidence=0.5)
    assert found.low < narrow.low < found.mean < narrow.high < found.high


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    cases = cases_of(np.random.default_rng().random((9, 3)))
    again, other = summarise(cases, seed=5), summarise(cases, seed=6)
    np.testing.assert_equal(asdict(summarise(cases, seed=5)), asdict(again))
    assert again.structures[0].estimates["dice"].low != other.structures[0].estimates["dice"].low
    assert again.structures[0].estimates["dice"].low == pytest.approx(
        other.structures[0].estimates["dice"].low, abs=0.03
    )


def test_structures_that_one_side_lacks_are_counted():
    reference = np.zeros((6, 6, 6), dtype=np.int16)
    reference[1:3, 1:3, 1:3] = 2
    cases = [
        Scorer(read_labels()).score(name, codes, reference, np.eye(4))
        for name, codes in (("hit", reference), ("missed", np.zeros_like(reference)))
    ]
    rows = {row.label.code: row for row in summarise(cases).structures}
    assert (rows[2].one_sided, rows[3].one_sided) == (1, 0)
    assert rows[2].estimates["dice"].mean == 0.5


@pytest.mark.parametrize("options", [{"samples": 0}, {"confidence": 1.0}, {"confidence": 0.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="wanted"):
        summarise(cases_of(np.ones((2, 2))), **options)
    with pytest.raises(ValueError, match="0 cases"):
        summarise([])


def test_comparison_equals_scipy_on_case_means_and_on_each_structure():
    rng = np.random.default_rng()
    first = rng.random((12, 5))
    second = first - rng.normal(0.05, 0.05, size=(12, 5))
    found = compare(cases_of(first), cases_of(second))
    assert found.overall.p_value == pytest.approx(wilcoxon(first.mean(axis=1), second.mean(axis=1)).pvalue)
    assert found.overall.difference.mean == pytest.approx((first - second).mean())
    assert found.overall.difference.low < found.overall.difference.mean < found.overall.difference.high
    wanted = [wilcoxon(first[:, column], second[:, column]).pvalue for column in range(5)]
    assert [row.p_value for row in found.structures] == pytest.approx(wanted)
    assert [row.p_holm for row in found.structures] == pytest.approx(holm(wanted))
    assert found.smallest_p == 2 / 2**12


def test_the_better_set_has_the_positive_difference_and_the_order_only_flips_signs():
    better, worse = np.full((8, 2), 0.9) + np.arange(8)[:, None] / 100, np.full((8, 2), 0.8)
    there, back = compare(cases_of(better), cases_of(worse)), compare(cases_of(worse), cases_of(better))
    assert there.overall.difference.mean == pytest.approx(0.135)
    assert back.overall.difference.mean == pytest.approx(-0.135)
    assert there.overall.p_value == back.overall.p_value == pytest.approx(2 / 2**8)


def test_equal_sets_differ_in_nothing():
    cases = cases_of(np.random.default_rng().random((6, 3)))
    found = compare(cases, cases)
    assert found.overall.difference.mean == 0
    assert found.overall.p_value == 1
    assert [row.p_holm for row in found.structures] == [1, 1, 1]


def test_cases_without_a_value_on_either_side_are_left_out():
    first = np.array([[0.9, 0.5], [0.8, np.nan], [0.9, 0.6], [0.7, 0.9]])
    second = np.array([[0.8, np.nan], [0.7, np.nan], [0.6, 0.5], [0.5, 0.7]])
    found = compare(cases_of(first), cases_of(second))
    assert found.structures[1].difference.count == 2
    assert found.structures[1].difference.mean == pytest.approx(0.15)
    assert found.structures[0].difference.count == 4
    none = compare(cases_of(first), cases_of(np.full((4, 2), np.nan)))
    assert np.isnan(none.overall.p_value)
    assert np.isnan(none.structures[0].p_holm)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.4]) == pytest.approx([0.8, 0.8])
    corrected = holm([0.02, float("nan"), 0.01])
    assert corrected[::2] == pytest.approx([0.02, 0.02])
    assert np.isnan(corrected[1])


def test_sets_of_other_cases_are_refused():
    cases = cases_of(np.ones((3, 2)))
    with pytest.raises(ValueError, match="the same"):
        compare(cases, cases[:2])
    with pytest.raises(ValueError, match="the same"):
        compare(cases, cases_of(np.ones((3, 1))))
