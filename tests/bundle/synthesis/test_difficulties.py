"""Samples of every degree of difficulty: which kinds there are, what each does, and that a seed gives the same."""

from __future__ import annotations

import pytest
import torch

from bundle.errors import OptionError
from bundle.synthesis import DifficultSamples, SyntheticBrainDataset, find_label_maps
from bundle.synthesis.difficulties import _turned
from bundle.synthesis.disturbing import DISTURBANCES, without_head
from bundle.synthesis.draws import Draws
from tests.phantom import write_phantoms

WINDOW = [[96.0] * 3, [144.0, 120.0, 96.0]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    paths = find_label_maps(write_phantoms(tmp_path_factory.mktemp("maps")))
    return SyntheticBrainDataset(paths, 6.0, WINDOW, length=4, seed=3)


def of_kind(dataset, **kind):
    return DifficultSamples(dataset, {"one": {"share": 1.0, **kind}}, {"strip": 0.0})


def test_a_sample_follows_from_seed_and_index_alone(dataset):
    kinds = {"usual": {"share": 1}, "spoilt": {"share": 1, "disturbances": [1, 3]}, "none": {"share": 1, "empty": True}}
    samples, again = (DifficultSamples(dataset, kinds) for _ in range(2))
    first = [samples[index] for index in range(8)]
    for index in reversed(range(8)):
        assert all(torch.equal(again[index][key], first[index][key]) for key in ("image", "label"))
        image = first[index]["image"]
        assert image.dtype == torch.float32
        assert 0 <= image.min() <= image.max() <= 1
        assert image.shape == first[index]["label"].shape
    assert {samples.kind(index) for index in range(60)} == set(kinds)


def test_shares_are_how_often_a_kind_is_drawn(dataset):
    samples = DifficultSamples(dataset, {"often": {"share": 3}, "never": {"share": 0}, "rarely": {"share": 1}})
    names = [samples.kind(index) for index in range(400)]
    assert names.count("never") == 0
    assert 0.68 < names.count("often") / 400 < 0.82


def test_a_usual_sample_is_the_data_sets_own(dataset):
    samples = DifficultSamples(dataset, {"usual": {"share": 1}})
    for index in range(2):
        assert torch.equal(samples[index]["image"], dataset[index]["image"])
        assert torch.equal(samples[index]["label"], dataset[index]["label"])


def test_options_of_a_kind_go_to_the_generator(dataset):
    usual, noisy = of_kind(dataset)[0], of_kind(dataset, options={"noise": 4.0})[0]
    assert torch.equal(noisy["label"], usual["label"])
    assert (noisy["image"] - usual["image"]).abs().mean() > 0.02


def test_disturbances_change_the_image_and_not_the_labels(dataset):
    usual, spoilt = of_kind(dataset), of_kind(dataset, disturbances=[1, 1])
    for index in range(6):
        assert torch.equal(spoilt[index]["label"], usual[index]["label"])
        assert (spoilt[index]["image"] - usual[index]["image"]).abs().mean() > 1e-3


@pytest.mark.parametrize("name", DISTURBANCES)
def test_each_disturbance_gives_finite_numbers_of_the_same_shape(dataset, name):
    image = dataset[0]["image"]
    for seed in range(4):
        found = DISTURBANCES[name](image.clone(), Draws(seed))
        assert found.shape == image.shape
        assert torch.isfinite(found).all()
        assert not torch.equal(found, image)
        assert torch.equal(found, DISTURBANCES[name](image.clone(), Draws(seed)))


def test_a_volume_without_a_head_has_no_labels(dataset):
    samples = of_kind(dataset, empty=True)
    assert not any(samples[index]["label"].any() for index in range(6))
    images = [without_head(dataset[0]["image"], Draws(seed)) for seed in range(12)]
    assert all(image.shape == dataset[0]["image"].shape and torch.isfinite(image).all() for image in images)


def test_turning_moves_labels_with_the_image_and_is_never_a_mirror_image_alone():
    image = torch.arange(6 * 7 * 8).float().reshape(1, 6, 7, 8)
    for seed in range(200):
        turned, label = _turned(image, image.to(torch.int64), Draws(seed))
        assert torch.equal(turned.long(), label)
        assert sorted(turned.flatten().tolist()) == image.flatten().tolist()
        assert turned.shape != image.shape or not (torch.equal(turned, image) or torch.equal(turned, image.flip(1)))


def test_what_does_not_exist_is_refused(dataset):
    with pytest.raises(OptionError, match="found 'flavour'"):
        DifficultSamples(dataset, {"one": {"share": 1, "flavour": 2}})
    with pytest.raises(OptionError, match="found 'flavour'"):
        DifficultSamples(dataset, {"one": {"share": 1, "options": {"flavour": 2}}})
    with pytest.raises(OptionError, match="no share above 0"):
        DifficultSamples(dataset, {"one": {"share": 0}})


def test_the_hash_tells_samples_apart(dataset):
    assert of_kind(dataset).value == of_kind(dataset).value
    assert of_kind(dataset).value != of_kind(dataset, disturbances=[0, 1]).value
