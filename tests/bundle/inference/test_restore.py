"""The way back to the scan's grid, against scipy's full-size linear interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from bundle.inference import restore_labels
from bundle.inference.aligned import aligned_axes
from bundle.inference.logits import Logits
from bundle.inference.restore import empty_channels, restore_planes
from bundle.inference.winners import winners_of

CLASSES = 4


def make_logits(shape=(14, 16, 12), seed=0) -> torch.Tensor:
    """Smooth logits of compact structures, so that uniform and mixed cells both occur."""
    noise = np.random.default_rng(seed).standard_normal((CLASSES, *shape))
    return torch.from_numpy(np.stack([gaussian_filter(channel, 2.0) for channel in noise]) * 40).float()


def full_size_reference(logits, affine, scan_affine, scan_shape) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate all probabilities at full size; return the classes and the lead of the winner."""
    probabilities = logits.double().softmax(0).numpy()
    to_grid = np.linalg.inv(affine) @ scan_affine
    index = np.stack(np.meshgrid(*map(np.arange, scan_shape), indexing="ij")).reshape(3, -1)
    position = to_grid[:3, :3] @ index + to_grid[:3, 3:]
    values = np.stack([map_coordinates(channel, position, order=1, mode="nearest") for channel in probabilities])
    limits = np.array(logits.shape[1:])[:, None] - 0.5
    inside = ((position >= -0.5) & (position <= limits)).all(0)
    ordered = np.sort(values, axis=0)
    classes = np.where(inside, values.argmax(0), 0)
    edge = np.minimum(np.abs(position + 0.5), np.abs(position - limits)).min(0)
    lead = np.where(edge < 1e-4, 0, ordered[-1] - ordered[-2])
    return classes.reshape(scan_shape), lead.reshape(scan_shape)


def rotation(degrees: float, axis: int) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(4)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[[i, i, j, j], [i, j, i, j]] = cos, -sin, sin, cos
    return matrix


GRID_AFFINE = np.diag([1.5, 1.5, 1.5, 1.0])
SCANS = {
    "finer": (np.diag([1.0, 1.0, 1.0, 1.0]), (21, 24, 18)),
    "flipped and permuted": (
        np.array([[0, 0, -1.0, 20], [1.0, 0, 0, -2], [0, 1.0, 0, 1], [0, 0, 0, 1]]),
        (24, 17, 23),
    ),
    "oblique": (rotation(20, 0) @ rotation(-10, 2) @ np.diag([0.9, 1.1, 1.3, 1]), (25, 26, 19)),
    "anisotropic": (np.diag([0.8, 0.8, 4.0, 1.0]), (26, 30, 6)),
    "left-handed, beyond the grid": (np.diag([-1.2, 1.0, 1.0, 1.0]) + np.eye(4, k=3) * 24, (30, 30, 30)),
}


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("slab_voxels", [500, 10**6])
def test_equals_the_full_size_result(name, slab_voxels):
    scan_affine, shape = SCANS[name]
    logits = make_logits()
    expected, lead = full_size_reference(logits, GRID_AFFINE, scan_affine, shape)
    result = restore_labels(logits, GRID_AFFINE, scan_affine, shape, slab_voxels).numpy()
    assert result.shape == shape
    assert len(np.unique(expected)) == CLASSES
    decided = lead > 1e-4  # closer calls are rounding
    assert decided.mean() > 0.5
    assert np.array_equal(result[decided], expected[decided])


def test_same_grid_is_argmax():
    logits = make_logits()
    result = restore_labels(logits, GRID_AFFINE, GRID_AFFINE, logits.shape[1:])
    assert torch.equal(result.long(), logits.argmax(0))


def test_outside_the_grid_is_background():
    logits = torch.zeros(2, 8, 8, 8)
    logits[1] = 5
    result = restore_labels(logits, np.eye(4), np.eye(4), (20, 8, 8))
    assert result[:8].all()
    assert not result[8:].any()


def test_nothing_found_is_all_background():
    logits = torch.zeros(3, 6, 6, 6)
    logits[0] = 1
    assert not restore_labels(logits, np.eye(4), np.eye(4), (9, 9, 9)).any()


def random_case(seed):
    """Return logits, their affine and a scan's, of random shapes, spacings, orders and directions of the axes.

    In a quarter of them the scan's voxels inside the grid are the grid's.
    """
    random = np.random.default_rng(seed)
    classes = int(random.choice([2, 3, 12, 40]))
    logits = random.standard_normal((classes, *random.integers(2, 14, 3))) * random.choice([0.5, 3.0, 30.0])
    logits[random.random(logits.shape) < 0.05] = -np.inf
    logits[0] = np.nan_to_num(logits[0], neginf=0.0)
    turn = np.eye(3)[random.permutation(3)] * random.choice([-1, 1], 3)
    scan = np.eye(4)
    scan[:3, :3] = turn * random.uniform(0.4, 2.5, 3)
    scan[:3, 3] = random.uniform(-4, 12, 3)
    if seed % 4 == 0:
        scan[:3, :3], scan[:3, 3] = turn, scan[:3, 3].round()
    world = rotation(random.uniform(-40, 40), 0) @ rotation(random.uniform(-40, 40), 2)
    return torch.from_numpy(logits).float(), world, world @ scan, tuple(random.integers(1, 20, 3).tolist())


@pytest.mark.parametrize("seeds", [range(100), range(100, 200)], ids=["first", "second"])
def test_scans_along_the_axes_equal_the_full_size_result(seeds):
    for seed in seeds:
        logits, affine, scan_affine, shape = random_case(seed)
        assert aligned_axes(np.linalg.inv(affine) @ scan_affine, logits.shape[1:], shape) is not None
        expected, lead = full_size_reference(logits, affine, scan_affine, shape)
        result = restore_labels(logits, affine, scan_affine, shape, slab_voxels=60).numpy()
        wrong = (result != expected) & (lead > 1e-5)
        assert not wrong.any(), seed


def test_a_class_that_wins_at_no_grid_point_can_win_between_them():
    logits = torch.log(torch.tensor([[0.6, 0.01], [0.39, 0.39], [0.01, 0.6]]))[:, :, None, None].expand(3, 2, 2, 2)
    scan_affine = np.diag([0.5, 1.0, 1.0, 1.0])
    assert restore_labels(logits, np.eye(4), scan_affine, (3, 2, 2))[:, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("turn", [np.eye(4), rotation(20, 2)], ids=["along the axes", "oblique"])
def test_more_classes_than_a_byte_holds(turn):
    logits = torch.full((300, 6, 6, 6), -5.0)
    logits[299, 1:5, 1:5, 1:5] = 5.0
    result = restore_labels(logits, np.eye(4), turn, (6, 6, 6))
    assert result.dtype == torch.int16
    assert set(result.unique().tolist()) == {0, 299}


@pytest.mark.parametrize("shape", [(40000, 2, 2, 2), (3, 4, 4), (3, 1, 4, 4)])
def test_bad_logits_are_refused(shape):
    with pytest.raises(ValueError, match="logits must have the shape"):
        restore_labels(torch.zeros(shape), np.eye(4), np.eye(4), (4, 4, 4))


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("structure", [np.s_[:, 3:6, 5:9, 2:4], np.s_[:, :2, :1, -1:], np.s_[:, 0:0]])
def test_known_winners_spare_what_lies_in_the_background_and_change_nothing(name, structure):
    scan_affine, shape = SCANS[name]
    to_grid = np.linalg.inv(GRID_AFFINE) @ scan_affine
    logits = torch.full((CLASSES, 14, 16, 12), -4.0)
    logits[0] = 3
    logits[structure] = make_logits()[structure]
    found = []
    for winners in (None, winners_of(logits)):
        channels = empty_channels(shape, Logits(logits))
        for part in (slice(0, 6), slice(5, 14)):  # planes come apart, and the last one again
            known = None if winners is None else winners[part]
            restore_planes(Logits(logits[:, part]), to_grid, channels, 14, part.start, winners=known)
        found.append(channels)
    assert torch.equal(*found)
    if structure[1] == slice(3, 6):
        assert found[0].any()
