"""Scores of one case: against brute force, and at the edges of what a label map can be."""

from __future__ import annotations

import time

import numpy as np
import pytest
from monai.metrics import DiceMetric
from scipy.spatial.transform import Rotation
from torch import from_numpy

from bundle.evaluation import CaseScores, Scorer
from bundle.io.label_map import read_label_map
from bundle.labels import Label, make_labels, read_labels
from tests.bundle.evaluation.surface_reference import dice, hd95, nsd, random_codes, surface_distances
from tests.conftest import SHARED_DATA
from tests.phantom import phantom_codes

TABLE = read_labels()
SMALL = [
    Label(0, 0, "Background", (0, 0, 0)),
    Label(1, 17, "Left-Hippocampus", (220, 216, 20)),
    Label(2, 16, "Brain-Stem", (119, 159, 176)),
    Label(3, 53, "Right-Hippocampus", (220, 216, 20)),
]
CODES = [0, 17, 16, 53]
AFFINE = np.diag([0.9, 1.3, 2.5, 1.0])


def by_code(scores: CaseScores) -> dict:
    return {score.label.code: score for score in scores.structures}


def oblique(spacing: list[float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [20, -10, 35], degrees=True).as_matrix() * np.array(spacing)
    return affine


@pytest.mark.parametrize("spacing", [[1.0, 1.0, 1.0], [0.9, 1.3, 2.5], [3.0, 0.7, 0.7]])
@pytest.mark.parametrize("tilted", [False, True])
def test_scores_equal_brute_force_in_mm(spacing, tilted):
    rng = np.random.default_rng()
    predicted, reference = (random_codes(rng, (14, 17, 12), CODES) for _ in range(2))
    affine = oblique(spacing) if tilted else np.diag([*spacing, 1.0])
    for tolerance in (1.0, 2.2):
        found = by_code(Scorer(SMALL, tolerance_mm=tolerance).score("a", predicted, reference, affine))
        assert list(found) == CODES[1:]
        for code, score in found.items():
            masks = predicted == code, reference == code
            distances = surface_distances(*masks, np.array(spacing))
            assert score.dice == pytest.approx(dice(*masks), abs=1e-6)
            assert score.hd95_mm == pytest.approx(hd95(distances), rel=1e-5)
            assert score.nsd == pytest.approx(nsd(distances, tolerance + 1e-4), abs=1e-6)
            volumes = [mask.sum() * np.prod(spacing) for mask in masks]
            assert (score.predicted_mm3, score.reference_mm3) == pytest.approx(volumes)
            assert score.volume_error_mm3 == pytest.approx(volumes[0] - volumes[1])
            assert score.volume_error_percent == pytest.approx(100 * (volumes[0] / volumes[1] - 1))


def test_mirrored_share_equals_a_count():
    rng = np.random.default_rng()
    predicted, reference = (random_codes(rng, (14, 17, 12), CODES) for _ in range(2))
    scores = Scorer(SMALL).score("a", predicted, reference, AFFINE)
    found = by_code(scores)
    left, right = reference == 17, reference == 53
    to_right, to_left = (left & (predicted == 53)).sum(), (right & (predicted == 17)).sum()
    assert found[17].mirrored_share == pytest.approx(to_right / left.sum())
    assert found[53].mirrored_share == pytest.approx(to_left / right.sum())
    assert np.isnan(found[16].mirrored_share)
    assert scores.mirrored_share == pytest.approx((to_right + to_left) / (left | right).sum())


def test_structures_whose_sides_are_no_pairs_are_scored_each_on_its_own():
    table = make_labels({17: "left hippocampus", 53: "right hippocampus", 16: "Left-Stem"})
    rng = np.random.default_rng()
    predicted, reference = (random_codes(rng, (14, 17, 12), CODES) for _ in range(2))
    found = by_code(Scorer(table).score("a", predicted, reference, AFFINE))
    assert found[17].mirrored_share == pytest.approx((predicted[reference == 17] == 53).mean())
    assert np.isnan(found[16].mirrored_share)
    assert found[16].dice == pytest.approx(dice(predicted == 16, reference == 16), abs=1e-6)


def test_perfect_prediction():
    codes = phantom_codes()
    scores = Scorer(TABLE).score("a", codes, codes, AFFINE)
    found = by_code(scores)
    assert len(found) == 32
    for code in (2, 3, 4, 10, 16, 24, 41, 42, 43, 49):
        score = found[code]
        assert (score.dice, score.nsd, score.hd95_mm, score.volume_error_percent) == (1, 1, 0, 0)
        assert score.volume_error_mm3 == 0
    assert scores.mirrored_share == 0
    assert scores.unknown_codes == (511, 515)


def test_swapped_sides_are_told():
    codes = phantom_codes()
    by_name = {label.name: label.code for label in TABLE}
    swap = np.arange(600)
    for name, code in by_name.items():
        if name.startswith("Left-"):
            swap[[code, by_name[name.replace("Left-", "Right-")]]] = by_name[name.replace("Left-", "Right-")], code
    scores = Scorer(TABLE).score("a", swap[codes], codes, AFFINE)
    found = by_code(scores)
    assert all(found[code].mirrored_share == 1 for code in (2, 3, 4, 10, 41, 42, 43, 49))
    assert all(found[code].dice == 0 for code in (2, 3, 4, 10, 41, 42, 43, 49))
    assert found[16].dice == 1
    assert scores.mirrored_share == 1


def test_ignored_voxels_count_for_nothing():
    rng = np.random.default_rng()
    reference = random_codes(rng, (14, 17, 12), CODES)
    predicted = reference.copy()
    predicted[:, :8], reference[:, :8] = random_codes(rng, (14, 8, 12), CODES), 255
    wrong = by_code(Scorer(SMALL).score("a", predicted, reference, AFFINE))
    scores = Scorer(SMALL, ignore=[255]).score("a", predicted, reference, AFFINE)
    assert any(score.dice < 1 for score in wrong.values())
    assert scores.unknown_codes == ()
    for code, score in by_code(scores).items():
        assert (score.dice, score.nsd, score.hd95_mm, score.volume_error_mm3) == (1, 1, 0, 0)
        assert score.reference_mm3 == pytest.approx((reference == code).sum() * 0.9 * 1.3 * 2.5)


def test_prediction_with_an_ignored_code_is_no_excuse():
    reference = phantom_codes()
    predicted = np.where(reference == 10, 255, reference)
    scores = Scorer(TABLE, ignore=[255]).score("a", predicted, reference, AFFINE)
    assert by_code(scores)[10].dice == 0
    assert scores.unknown_codes == (255, 511, 515)


def test_unscored_structure_is_background_to_the_others():
    reference = phantom_codes()
    predicted = np.where(reference == 24, 3, reference)
    all_scores = by_code(Scorer(TABLE).score("a", predicted, reference, AFFINE))
    found = by_code(Scorer(TABLE, unscored=[24]).score("a", predicted, reference, AFFINE))
    assert set(all_scores) - set(found) == {24}
    assert found[3] == all_scores[3]
    assert found[3].dice < 1
    assert 24 not in by_code(Scorer(TABLE, ignore=[24]).score("a", predicted, reference, AFFINE))


def test_missing_structures():
    reference = np.zeros((8, 9, 10), dtype=np.uint8)
    reference[2:4, 2:4, 2:4] = 17
    predicted = np.zeros_like(reference)
    predicted[5:7, 5:7, 5:8] = 53
    found = by_code(Scorer(SMALL).score("a", predicted, reference, AFFINE))
    voxel = 0.9 * 1.3 * 2.5
    missed, invented, absent = found[17], found[53], found[16]
    assert (missed.dice, missed.nsd, missed.hd95_mm, missed.volume_error_percent) == (0, 0, np.inf, -100)
    assert missed.volume_error_mm3 == pytest.approx(-8 * voxel)
    assert (invented.dice, invented.nsd, invented.hd95_mm) == (0, 0, np.inf)
    assert np.isnan(invented.volume_error_percent)
    assert invented.volume_error_mm3 == pytest.approx(12 * voxel)
    assert np.isnan([absent.dice, absent.nsd, absent.hd95_mm, absent.volume_error_mm3]).all()
    assert [found[code].one_sided for code in (17, 53, 16)] == [True, True, False]


def test_spacing_that_is_1_mm_but_for_rounding_keeps_its_neighbours_within_1_mm():
    reference = np.zeros((12, 12, 12), dtype=np.int16)
    reference[3:8, 3:8, 3:8] = 16
    shifted = np.roll(reference, 1, axis=0)
    for spacing in (1.0, 1.0000002, 0.9999998):
        score = by_code(Scorer(SMALL).score("a", shifted, reference, np.diag([spacing] * 3 + [1.0])))[16]
        assert score.nsd == 1


def test_structure_at_the_border_of_the_volume_has_its_surface_there():
    reference = np.full((6, 7, 8), 16, dtype=np.int16)
    predicted = reference.copy()
    predicted[0] = 0
    score = by_code(Scorer(SMALL).score("a", predicted, reference, np.diag([2.0, 1, 1, 1])))[16]
    distances = surface_distances(predicted == 16, reference == 16, np.array([2.0, 1, 1]))
    assert score.hd95_mm == pytest.approx(hd95(distances))
    assert score.nsd == pytest.approx(nsd(distances, 1))


def test_mean_over_structures_equals_monai_on_whole_volumes():
    rng = np.random.default_rng()
    channels = [random_codes(rng, (20, 21, 22), [0, 1, 2, 3]) for _ in range(2)]
    metric = DiceMetric(include_background=False, num_classes=4)
    metric(*(from_numpy(side)[None, None] for side in channels))
    scores = Scorer(SMALL).score("a", *(np.array(CODES, dtype=np.int16)[side] for side in channels), AFFINE)
    assert np.mean([score.dice for score in scores.structures]) == pytest.approx(metric.aggregate().item(), abs=1e-6)


def test_codes_of_any_integer_type():
    reference = phantom_codes()
    wanted = Scorer(TABLE).score("a", np.roll(reference, 1, 0), reference, AFFINE)
    for dtype in (np.uint16, np.int32, np.int64):
        found = Scorer(TABLE).score("a", np.roll(reference, 1, 0).astype(dtype), reference.astype(dtype), AFFINE)
        np.testing.assert_equal(
            [vars(score) for score in found.structures], [vars(score) for score in wanted.structures]
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unscored": [16, 17, 53]}, "no structure"),
        ({"tolerance_mm": -1}, "tolerance"),
        ({"tolerance_mm": np.nan}, "mm"),
    ],
)
def test_bad_rules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Scorer(SMALL, **arguments)


def test_other_shape_is_refused():
    with pytest.raises(ValueError, match=r"found shape \(3, 4, 5\); \(3, 4, 6\)"):
        Scorer(SMALL).score("a", np.zeros((3, 4, 5), int), np.zeros((3, 4, 6), int), AFFINE)


@pytest.mark.slow
def test_large_scan_with_all_structures_is_scored_in_less_than_a_minute():
    path = SHARED_DATA / "label_maps" / "training_seg_01.nii.gz"
    if not path.is_file():
        pytest.skip("the label maps are not here; docs/data_license.txt says where they come from")
    reference = read_label_map(path)
    assert reference.codes.shape == (256, 256, 256)
    started = time.process_time()
    scores = Scorer(TABLE).score("a", np.roll(reference.codes, 2, 1), reference.codes, reference.grid.affine)
    assert time.process_time() - started < 60
    assert sum(np.isfinite(score.hd95_mm) for score in scores.structures) == 32
    assert max(score.hd95_mm for score in scores.structures) == pytest.approx(2)
