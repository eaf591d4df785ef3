"""Black and white of a head: a background that is not black is found, no other; the inside does not see its outside."""

from __future__ import annotations

from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree

from bundle.io import read_volume
from bundle.io.scale import (
    BLACK,
    DEEPEST,
    Background,
    Scale,
    background_metadata,
    find_background,
    measure_inside,
    scale_metadata,
    scale_of,
)
from tests.phantoms import SPACING, WHITE, depth, standardise, stripped_head, stripped_t2


@pytest.fixture(scope="module")
def head():
    return stripped_head()


def with_air(head):
    """A head that was not stripped: air has the noise of a magnitude image, in whole numbers."""
    first, second = np.random.default_rng(1).normal(0, 12, (2, *head.shape))
    return np.hypot(head + first, second).round().astype(np.float32)


def with_cavity(head):
    """A stripped head with a cavity of one dark value, darker than all else in it."""
    offsets = np.indices(head.shape) - np.array(head.shape).reshape(3, 1, 1, 1) / 2
    return np.where(np.linalg.norm(offsets, axis=0) < 0.15 * min(head.shape), 0.12 * head.max(), head)


SOUND = {
    "stripped": lambda head: head,
    "standardised as a whole": lambda head: (head - head.mean()) / head.std(),
    "from -1 to 1": lambda head: head / 500 - 1,
    "with a dark cavity": with_cavity,
    "with noisy air": with_air,
    "with noise, standardised": lambda head: (with_air(head) - 400) / 300,
    "a little below all else": lambda head: np.where(head == 0, -60, head),
    "saturated tissue": lambda head: np.minimum(with_air(head), 780),
    "no background": lambda head: head[30:50, 40:60, 30:50],
    "padded with black": lambda head: np.pad(with_air(head), 30),
    "a mask": lambda head: (head > 0).astype(np.float32),
    "T2, whose darkest tissue is far above 0": lambda head: stripped_t2(),
}


@pytest.mark.parametrize("name", SOUND)
def test_scan_as_scanners_and_stripping_leave_it_keeps_its_background(head, name):
    assert find_background(SOUND[name](head)) is None


def test_zero_of_a_standardised_head_is_found_and_black_is_near_where_zero_was(head):
    image, zero = standardise(head, head > 0)
    found = find_background(image)
    assert found.value == 0
    assert abs(found.black - zero) < 0.1 * np.ptp(image)


def test_mask_wider_than_the_head_shows_where_zero_was(head):
    image, zero = standardise(head, binary_dilation(head > 0, iterations=3))
    assert find_background(image) == Background(0.0, pytest.approx(zero, abs=1e-6))


@pytest.mark.parametrize("value", [-1024, 1200, 450, -3.0e4])
def test_mark_around_the_head_is_found(head, value):
    assert find_background(np.where(head == 0, np.float32(value), head)).value == value


def test_mark_around_noisy_air_becomes_the_air(head):
    image = np.where(depth() < -0.3, np.float32(-1024), with_air(head))
    assert find_background(image) == Background(-1024.0, pytest.approx(0, abs=3))


def test_nan_around_a_standardised_head_counts_as_zero(head, tmp_path):
    image, _ = standardise(head, head > 0)
    scan = nib.Nifti1Image(np.where(head > 0, image, np.nan).astype(np.float32), np.diag([2.0, 2, 2, 1]))
    scan.header.set_xyzt_units("mm")
    scan.to_filename(tmp_path / "nan.nii")
    assert find_background(read_volume(tmp_path / "nan.nii", fill_nonfinite=True).data).value == 0


def test_background_is_what_plain_counting_and_sorting_give(head):
    image, _ = standardise(stripped_head(3), head > 0)
    value, _ = Counter(image.ravel().tolist()).most_common(1)[0]
    rest = np.sort(image[image != value].astype(np.float64))

    def percentile(share):
        place = share / 100 * (len(rest) - 1)
        low = int(place)
        return rest[low] + (place - low) * (rest[low + 1] - rest[low])

    darkest, brightest = percentile(0.1), percentile(99.5)
    wanted = Background(value, pytest.approx(darkest + BLACK * (brightest - darkest), rel=1e-5))
    assert find_background(image) == wanted


def test_inside_is_what_brute_force_gives(head):
    image = with_air(head)[:, :, ::2].astype(np.float64)  # voxels of 2 x 2 x 4 mm: every second one along X and Y
    coarse = image[::2, ::2]
    black = np.quantile(coarse, 0.005)
    above = coarse - black
    inside = above > np.median(above[above > above.mean()]) / 7  # this head has no holes at that level
    outside = cKDTree(4.0 * np.argwhere(~inside))
    distance, _ = outside.query(4.0 * np.argwhere(inside))
    deep = coarse[inside][distance >= np.quantile(distance, 1 - DEEPEST)]
    found = measure_inside(image, (2.0, 2.0, 4.0))
    assert found.black == pytest.approx(black)
    assert found.span == pytest.approx(np.quantile(deep, 0.75) - black)


@pytest.mark.parametrize("times", [1, 3, 10])
@pytest.mark.parametrize("mm", [2, 8])
def test_inside_does_not_see_the_rim(head, times, mm):
    image = np.where((depth() > 0) & (depth() < mm / 70), times * WHITE, head)
    assert measure_inside(image, SPACING).span == pytest.approx(WHITE, rel=0.05)


def test_inside_is_seen_where_a_bright_rim_is_open_below(head):
    image = np.where((depth() > 0) & (depth() < 0.15), 12 * WHITE, head)[:, :, 30:]
    assert np.median(image[image > image.mean()]) / 7 > WHITE  # the brain is a hole to begin with
    assert measure_inside(image, SPACING).span == pytest.approx(WHITE, rel=0.05)


def test_without_a_head_or_its_outside_there_is_no_inside(head):
    assert measure_inside(head[30:50, 40:60, 30:50], SPACING) is None
    assert measure_inside(np.zeros((30, 30, 30)), SPACING) is None
    assert measure_inside(head, (0.2, 0.2, 0.2)) is None  # 17 mm in all


def test_metadata_tell_the_scale():
    background = Background(0.0, -2.5)
    meta = {**background_metadata(background), **scale_metadata(-2.5, 3.0, "inside")}
    assert scale_of(meta) == Scale(-2.5, 3.0, "inside", background)
    assert scale_of(scale_metadata(0.0, 1.0, "percentiles")) == Scale(0.0, 1.0, "percentiles", None)
    assert scale_of({"spacing": 1}) is None
