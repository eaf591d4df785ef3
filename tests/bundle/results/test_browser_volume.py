"""Voxels in a page are those of the scan: order, levels, places, and coarser ones where they would be too many."""

from __future__ import annotations

import base64
import gzip
import io

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle.labels import Label
from bundle.results import browser_volume as module
from bundle.results.browser_volume import browser_volume, thumbnail
from bundle.results.scene import make_scene

LABELS = [Label(1, 17, "A", (255, 0, 0)), Label(2, 300, "B", (0, 0, 255))]


@pytest.fixture
def scene():
    """A scene whose file has its axes towards P, S, L."""
    rng = np.random.default_rng()
    image = rng.uniform(1, 100, (20, 18, 24)).astype(np.float32)
    codes = rng.choice([0, 17, 300], (20, 18, 24)).astype(np.int16)
    affine = np.array([[0, 0, -2.0, 30], [-1.0, 0, 0, 9], [0, 1.5, 0, -4], [0, 0, 0, 1]])
    return make_scene(image, codes, affine, 0), image, codes, affine


def unpacked(content, name, shape):
    return np.frombuffer(gzip.decompress(base64.b64decode(content[name])), dtype=np.uint8).reshape(shape, order="F")


def test_voxels_are_those_of_the_scan_in_ras_order(scene):
    made, image, codes, affine = scene
    volume = browser_volume(made, LABELS, has_scan=True)
    content = volume.content([0, 0, 0])
    ras = nib.as_closest_canonical(nib.Nifti1Image(image, affine))
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((ras.get_fdata() - low) / (high - low), 0, 1) * 255
    assert np.abs(unpacked(content, "grey", content["shape"]) - grey).max() <= 0.51
    expected = nib.as_closest_canonical(nib.Nifti1Image(codes, affine)).get_fdata()
    assert np.array_equal(np.array([0, 17, 300])[unpacked(content, "labels", content["shape"])], expected)
    assert np.allclose(content["affine"], ras.affine)
    assert content["spacing"] == [2.0, 1.0, 1.5]


def test_without_a_scan_there_are_labels_alone(scene):
    volume = browser_volume(scene[0], LABELS, has_scan=False)
    assert volume.grey is None
    assert volume.content([0, 0, 0])["grey"] is None


def test_what_is_too_large_is_made_coarser_along_the_finest_axis(scene, monkeypatch):
    made = scene[0]
    full = browser_volume(made, LABELS, has_scan=True)
    monkeypatch.setattr(module, "MOST_BYTES", sum(map(len, full.packed)) * 2 // 3)
    volume = browser_volume(made, LABELS, has_scan=True)
    assert volume.reduced == (1, 2, 1)
    assert sum(map(len, volume.packed)) <= module.MOST_BYTES
    assert volume.spacing == [2.0, 2.0, 1.5]
    pairs = np.clip(
        (made.image.reshape(24, 10, 2, 18).mean(axis=2) - made.window[0]) / np.subtract(*made.window[::-1]), 0, 1
    )
    assert np.abs(volume.grey - 255 * pairs).max() <= 0.51
    # The centre of two voxels lies between theirs.
    first, second = (made.affine @ [3, y, 5, 1] for y in (8, 9))
    assert np.allclose(volume.affine @ [3, 4, 5, 1], (first + second) / 2)


def test_voxels_are_limited_too(scene, monkeypatch):
    monkeypatch.setattr(module, "MOST_VOXELS", 20 * 18 * 24 // 3)
    assert browser_volume(scene[0], LABELS, has_scan=True).reduced == (1, 2, 2)


def test_place_of_a_structure_is_one_of_its_voxels(scene):
    volume = browser_volume(scene[0], LABELS, has_scan=True)
    for channel, at in enumerate(volume.places(2), 1):
        assert volume.channels[tuple(at)] == channel
    assert volume.places(3)[2] is None


def test_thumbnail_is_a_small_png_in_the_proportions_of_the_head(scene):
    address = thumbnail(browser_volume(scene[0], LABELS, has_scan=True), LABELS, [10, 10, 9])
    png = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    picture = Image.open(io.BytesIO(png))
    assert picture.size == (round(56 * 24 * 2.0 / (18 * 1.5)), 56)
    assert len(png) < 6000
