"""The transforms that scale a head: MONAI's percentiles to the last bit, unless a background or a rim would mislead."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, ScaleIntensityRangePercentilesd

from bundle.errors import IntensityWarning
from bundle.inference import PlaceBackgroundd, ScaleIntensitiesd
from bundle.io.scale import scale_of
from tests.phantoms import WHITE, depth, standardise, stripped_head, stripped_t2

RULES = Compose([PlaceBackgroundd("image"), ScaleIntensitiesd("image")])
STOCK = ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True)


@pytest.fixture(scope="module")
def head():
    return stripped_head()


def tensor(image):
    affine = torch.diag(torch.tensor([2.0, 2, 2, 1], dtype=torch.float64))
    meta = {"filename_or_obj": "folder/head.nii.gz"}
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(image, np.float32))[None], affine=affine, meta=meta)


def with_rim(head, times=3.0):
    return np.where((depth() > 0) & (depth() < 0.1), times * WHITE, head)


@pytest.mark.parametrize("pad", [0, 12], ids=["less than a million voxels", "more"])
def test_sound_scan_is_scaled_as_monai_scales_it_to_the_last_bit(head, pad):
    image = np.pad(head, pad)
    assert (image.size > 1_000_000) == bool(pad)  # MONAI computes percentiles in PyTorch or NumPy
    with warnings.catch_warnings():
        warnings.simplefilter("error", IntensityWarning)
        ruled, stock = RULES({"image": tensor(image)})["image"], STOCK({"image": tensor(image)})["image"]
    assert torch.equal(ruled.as_tensor(), stock.as_tensor())
    assert torch.equal(ruled.affine, stock.affine)
    low, high = np.percentile(image, [0.5, 99.5])
    scale = scale_of(ruled.meta)
    assert (scale.source, scale.background) == ("percentiles", None)
    assert (scale.low, scale.high) == pytest.approx((low, high))


def test_fluid_that_outshines_the_tissue_inside_is_not_cut_off():
    image = stripped_t2()
    assert np.percentile(image, 99.5) > 2 * np.percentile(image[depth() > 0.31], 75)
    with warnings.catch_warnings():
        warnings.simplefilter("error", IntensityWarning)
        ruled, stock = RULES({"image": tensor(image)})["image"], STOCK({"image": tensor(image)})["image"]
    assert torch.equal(ruled.as_tensor(), stock.as_tensor())
    assert float(ruled[0][depth() > 0.75].median()) > 0.9
    rim = np.where((depth() > 0) & (depth() < 0.1), 3000.0, image)
    with pytest.warns(IntensityWarning, match="what shines around the brain"):
        ruled = RULES({"image": tensor(rim)})["image"]
    assert scale_of(ruled.meta).high == pytest.approx(1010, abs=15)


def test_image_without_a_misplaced_background_is_handed_on_untouched(head):
    image = tensor(head)
    assert PlaceBackgroundd("image")({"image": image})["image"] is image


def test_standardised_head_looks_like_the_head_itself(head):
    image, _ = standardise(head, head > 0)
    stored = tensor(image)
    with pytest.warns(IntensityWarning, match=r"^folder/head\.nii\.gz: found a background of 0, which is not black"):
        ruled = RULES({"image": stored})["image"]
    wanted = STOCK({"image": tensor(head)})["image"]
    assert np.abs(ruled.numpy() - wanted.numpy()).max() < 0.1
    assert np.abs(STOCK({"image": stored})["image"].numpy() - wanted.numpy()).max() > 0.4
    np.testing.assert_array_equal(stored[0], image)  # what came in stays


@pytest.mark.parametrize("times", [3, 6])
def test_rim_does_not_darken_the_brain(head, times):
    with pytest.warns(IntensityWarning, match="what shines around the brain would be white at"):
        ruled = RULES({"image": tensor(with_rim(head, times))})["image"]
    white = depth() > 0.2
    assert 0.8 < np.median(ruled[0][white]) < 0.95
    assert ruled.max() == 1
    assert np.median(STOCK({"image": tensor(with_rim(head, times))})["image"][0][white]) < 0.4
    assert scale_of(ruled.meta).source == "inside"


def test_rim_that_training_has_too_is_left(head):
    image = tensor(with_rim(head, 1.6))
    assert torch.equal(RULES({"image": image})["image"].as_tensor(), STOCK({"image": image})["image"].as_tensor())


def test_scale_is_known_behind_monais_collation(head):
    image, _ = standardise(with_rim(head), head > 0)
    with pytest.warns(IntensityWarning):
        data = RULES({"image": tensor(image)})
    batch = decollate_batch(list_data_collate([data]))[0]
    assert scale_of(batch["image"].meta) == scale_of(data["image"].meta)
    assert scale_of(batch["image"].meta).background.value == 0
    assert scale_of(batch["image"].meta).source == "inside"
