"""``benchmarks.quality``: what it compares, and the figures that it makes of that."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from benchmarks.quality import Result, condition_means, figures, judge, plot, summarise, synthetic_scans, true_dice
from benchmarks.spoilt import DISTURBANCES
from bundle.inference.segmenter import Segmenter
from bundle.model import read_model
from tests.conftest import ROOT
from tests.judging import GROUPS, write_brain_folder
from tests.phantom import write_phantoms


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return read_model(write_brain_folder(tmp_path_factory.mktemp("model")))


def test_samples_are_judged_as_scans_are(model, tmp_path, capsys):
    maps = str(write_phantoms(tmp_path / "maps", 3))
    options = argparse.Namespace(label_maps=maps, brains=None, held_out=1, brains_held_out=0, synthetic=3)
    segmenter = Segmenter(model=str(model.folder), flags=None, bundle_root=str(ROOT), precision="float32")
    results = [judge(segmenter, model, *given) for given in synthetic_scans(options, model)]
    assert [result.scan for result in results] == [f"synthetic {index}" for index in range(3)]
    for result in results:
        assert list(result.predicted) == list(result.true) == list(GROUPS)
        assert all(value is None or 0 <= value <= 1 for value in result.true.values())
    assert {"synthetic, groups", "all, wholes", "cerebellum"} <= summarise(results).keys()
    assert "Spearman" in capsys.readouterr().out
    plot(results, str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_thirty_conditions_keep_image_and_labels_together():
    generator = np.random.default_rng(0)
    labels = np.zeros((24, 26, 22), dtype=np.int16)
    labels[4:20, 5:21, 4:18] = generator.choice([2, 3, 4, 41, 42], (16, 16, 14))
    image = np.where(labels > 0, 200.0 + 10 * labels + generator.random(labels.shape), 0).astype(np.float32)
    assert len(DISTURBANCES) == 30
    for name, change in DISTURBANCES.items():
        found, truth, affine = change((image, labels, np.eye(4)), 0)
        assert found.shape == truth.shape, name
        assert np.isfinite(found).all(), name
        assert affine.shape == (4, 4)
        assert truth.any() != ("alone" in name), name


def test_voxels_that_nobody_labelled_count_nowhere(model):
    truth = np.zeros((12, 12, 12), dtype=np.int16)
    truth[:6] = 2
    found = truth.copy()
    found[4:6] = 41  # the other side
    assert true_dice(found, truth, model, 1.0)["white matter"] == pytest.approx(2 / 3)
    truth[4:6] = 255
    assert true_dice(found, truth, model, 1.0)["white matter"] == 1
    assert true_dice(found, truth, model, 1.0)["cerebellum"] is None


def test_figures_count_what_is_caught_and_what_is_flagged_in_vain():
    pairs = [(0.2, 0.1), (0.7, 0.5), (0.9, 0.9), (0.6, 0.8), (0.5, 0.7)]
    found = figures(pairs)
    assert (found["bad"], found["caught"]) == (2, 0.5)
    assert (found["good"], found["flagged"]) == (2, 0.5)
    assert found["spearman"] == pytest.approx(0.7)
    result = Result("scan", "as it is", {"a": 0.4, "b": 0.8, "c": 0.1}, {"a": 0.5, "b": 0.9, "c": None})
    assert result.whole == pytest.approx((0.6, 0.7))


def test_means_of_a_condition_are_of_whole_results_and_leave_out_what_is_not_judged():
    results = [
        Result("a", "noise", {"one": 0.2, "two": 0.4}, {"one": 0.1, "two": 0.5}),
        Result("b", "noise", {"one": 0.9, "two": 0.6}, {"one": None, "two": 0.7}),
        Result("c", "blur", {"one": 0.9, "two": 0.6}, {"one": None, "two": None}),
    ]
    (found,) = condition_means(results).items()
    assert found == ("noise", (pytest.approx(0.45), pytest.approx(0.5)))
