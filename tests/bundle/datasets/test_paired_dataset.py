"""Samples of images with labels: deterministic in seed and index, whoever draws them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Lambdad,
    LoadImaged,
    OneOf,
    RandAffined,
    RandCropByPosNegLabeld,
    RandGaussianNoised,
    RandSpatialCropd,
    ScaleIntensityd,
)
from torch.utils.data import DataLoader

from bundle.datasets import CaseDataset, PairedDataset, read_dataset
from bundle.errors import InputError, OptionError, root_cause
from bundle.io import NiftiReader
from bundle.synthesis import FreshSampler
from tests.labelled import SHAPE, make_pair, write_msd, write_nifti

KEYS = ["image", "label"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paired")
    write_msd(folder)
    return read_dataset(folder)


def preprocessing():
    return Compose([LoadImaged(KEYS), EnsureChannelFirstd(KEYS), ScaleIntensityd("image")])


def augmentation():
    shift = RandAffined(
        KEYS,
        prob=0.8,
        rotate_range=[0.3] * 3,
        translate_range=[2] * 3,
        mode=["bilinear", "nearest"],
        padding_mode="zeros",
    )
    return Compose(
        [RandSpatialCropd(KEYS, [12, 12, 12], random_size=False), OneOf([shift, RandGaussianNoised("image", prob=1.0)])]
    )


@pytest.fixture
def paired(dataset):
    def make(**changes):
        options = {"cases": dataset.cases, "table": dataset.table, "preprocessing": preprocessing()}
        options |= {"augmentation": augmentation(), "length": 10, "seed": 3}
        return PairedDataset(**(options | changes))

    return make


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in KEYS)


def test_sample_has_plain_tensors_of_the_agreed_types(paired):
    data = paired()
    assert len(data) == 10
    for index in range(20):
        sample = data[index]
        assert sorted(sample) == KEYS
        assert {type(value) for value in sample.values()} == {torch.Tensor}
        assert sample["image"].dtype == torch.float32
        assert sample["label"].dtype == torch.uint8
        assert sample["image"].shape == sample["label"].shape == (1, 12, 12, 12)
        assert set(sample["label"].unique().tolist()) <= {0, 1, 2}


def test_sample_depends_on_seed_and_index_alone(paired):
    data = paired()
    forward = [data[index] for index in range(14)]
    other = paired()
    for index in reversed(range(14)):
        np.random.seed(index)
        torch.manual_seed(index)
        assert same(other[index], forward[index])
    assert not any(same(forward[i], forward[j]) for i in range(14) for j in range(i))
    reseeded = paired(seed=4)
    assert not any(same(reseeded[index], forward[index]) for index in range(14))


def test_workers_and_epochs_give_the_same_samples(paired):
    drawn = []
    for workers in (0, 2):
        data = paired()
        sampler = FreshSampler(data)
        loader = DataLoader(data, batch_size=2, sampler=sampler, num_workers=workers)
        batches = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            batches += list(loader)
        drawn.append(batches)
    assert len(drawn[0]) == 10
    assert all(same(first, second) for first, second in zip(*drawn, strict=True))
    reference = paired()
    assert torch.equal(drawn[1][7]["image"][1], reference[15]["image"])


def test_each_pass_visits_every_case_once_in_its_own_order(paired):
    data = paired()
    passes = [[data.case_of(index) for index in range(start, start + 6)] for start in range(0, 60, 6)]
    assert all(sorted(visited) == list(range(6)) for visited in passes)
    assert len({tuple(visited) for visited in passes}) > 5


def test_files_are_read_once_and_augmentation_never_reaches_the_cache(paired, dataset):
    read = []
    load = preprocessing()

    def counted(data):
        read.append(data["image"])
        return load(data)

    def spoil(image):
        image[:] = -1
        return image

    data = paired(preprocessing=counted, augmentation=Compose([Lambdad("image", spoil)]))
    for index in range(24):
        assert (data[index]["image"] == -1).all()
    assert sorted(read) == sorted(str(case.image) for case in dataset.cases)
    assert data.source[0]["image"].min() == 0
    paired(preprocessing=counted, cache=False)[0]
    uncached = paired(preprocessing=counted, cache=False)
    before = len(read)
    assert same(uncached[0], uncached[0])
    assert len(read) == before + 2


def test_validation_gives_each_case_once_unchanged(dataset):
    data = CaseDataset(dataset.cases, dataset.table, preprocessing())
    assert len(data) == 6
    channels = np.array([0, 0, 0, 1, 0, 0, 0, 2])
    for seed in range(6):
        image, label = make_pair(seed)
        sample = data[seed]
        low, high = image.min(), image.max()
        np.testing.assert_allclose(sample["image"][0].numpy(), (image - low) / (high - low), atol=1e-6)
        np.testing.assert_array_equal(sample["label"][0].numpy(), channels[label])
        assert type(sample["image"]) is torch.Tensor


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_class_weights_are_a_power_of_the_inverse_frequency(paired, power):
    voxels = np.bincount(np.concatenate([make_pair(seed)[1].ravel() for seed in range(6)]))[[0, 3, 7]]
    wanted = (voxels.sum() / voxels) ** power
    weights = paired().class_weights(power)
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights.numpy(), wanted / wanted.mean(), rtol=1e-6)
    assert weights.mean().item() == pytest.approx(1)


def test_one_crop_around_a_structure_is_taken_and_several_are_refused(paired):
    def crops(number):
        return Compose([RandCropByPosNegLabeld(KEYS, "label", [8, 8, 8], num_samples=number)])

    assert paired(augmentation=crops(1))[0]["label"].shape == (1, 8, 8, 8)
    with pytest.raises(OptionError, match="set num_samples to 1"):
        paired(augmentation=crops(2))[0]


def test_without_augmentation_the_case_itself_is_the_sample(paired):
    data = paired(augmentation=None)
    assert same(data[4], data.source[data.case_of(4)])
    assert data[4]["image"].shape == (1, *SHAPE)


def test_code_that_the_table_lacks_names_the_file(dataset):
    data = CaseDataset(dataset.cases, dataset.table[:2], preprocessing())
    with pytest.raises(InputError, match=r"case_00.nii.gz: found the codes \[7\]"):
        data[0]


def test_sizes_that_differ_after_preprocessing_name_the_file(dataset):
    crop = Compose([preprocessing(), RandSpatialCropd("image", [8, 8, 8], random_size=False)])
    with pytest.raises(InputError, match=r"case_00.nii.gz: found \(14, 16, 12\) voxels after preprocessing"):
        CaseDataset(dataset.cases, dataset.table, crop)[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": []}, "cases: found none; at least one"),
        ({"length": 0}, "length: found 0; at least 1"),
        ({"augmentation": lambda data: data}, "augmentation: .*set_random_state"),
    ],
)
def test_wrong_arguments_are_refused(paired, changes, message):
    with pytest.raises(OptionError, match=message):
        paired(**changes)


def test_table_may_be_called_labels_as_in_configs_of_version_0_8(paired, dataset):
    with pytest.deprecated_call():
        old = CaseDataset(cases=dataset.cases, labels=dataset.labels, preprocessing=preprocessing())
    assert same(old[0], CaseDataset(dataset.cases, dataset.table, preprocessing())[0])
    options = {"preprocessing": preprocessing(), "augmentation": augmentation(), "length": 10, "seed": 3}
    with pytest.deprecated_call():
        old = PairedDataset(cases=dataset.cases, labels=dataset.labels, **options)
    assert same(old[0], paired()[0])


def _fractions(data):
    data[7, 8, 6] = 3.25  # next to a code of the table
    return data


def _nan(data):
    data[7, 8, 6] = np.nan
    return data


def _stacked(data):
    return np.stack([data, data], axis=-1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_fractions, r"found labels that are no whole numbers \(3\.25\); integer codes"),
        (_nan, "found 1 voxels that are NaN or Inf"),
        (_stacked, r"found shape \(14, 16, 12, 2\); a single 3D volume"),
        (None, "a complete NIfTI file is wanted"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_in_one_line_that_names_the_file(dataset, tmp_path, spoil, message):
    """A check comes first; a file may be spoilt after it."""
    path = tmp_path / "spoilt.nii.gz"
    data = make_pair(0)[1].astype(np.float32)
    write_nifti(path, data if spoil is None else spoil(data))
    if spoil is None:
        path.write_bytes(path.read_bytes()[:200])
    load = Compose([LoadImaged(KEYS, reader=NiftiReader()), EnsureChannelFirstd(KEYS)])
    data = CaseDataset([replace(dataset.cases[0], label=path)], dataset.table, load)
    with pytest.raises((InputError, RuntimeError)) as caught:
        data[0]
    error = root_cause(caught.value)
    assert isinstance(error, InputError)
    assert re.match(f"{path}: .*{message}", str(error)), error
    assert "\n" not in str(error)


def test_augmentation_that_mixes_codes_is_refused(paired):
    shift = RandAffined(KEYS, prob=1.0, translate_range=[2] * 3, mode="bilinear", padding_mode="zeros")
    with pytest.raises(InputError, match="augmentation: found labels that are no whole numbers"):
        paired(augmentation=Compose([shift]))[0]
