"""Samples that are kept: bounded, in turn, and what an index gives depends on the seed and the index alone."""

from __future__ import annotations

import pytest
import torch

from bundle.errors import OptionError
from bundle.labels import read_labels
from bundle.synthesis import ReusedSamples, SyntheticBrainDataset, find_label_maps
from tests.phantom import write_phantoms


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    maps = find_label_maps(write_phantoms(tmp_path_factory.mktemp("maps"), 2))
    return SyntheticBrainDataset(maps, 6.0, ((96,) * 3,) * 2, 4)


def test_each_sample_is_drawn_once_and_given_in_turn(dataset, tmp_path, monkeypatch):
    numbers = []
    draw = SyntheticBrainDataset.__getitem__
    monkeypatch.setattr(SyntheticBrainDataset, "__getitem__", lambda self, n: (numbers.append(n), draw(self, n))[1])
    samples = ReusedSamples(dataset, tmp_path / "kept", keep=4, uses=3)
    for index in range(24):
        samples[index]
    assert numbers == list(range(8))
    assert [samples.drawn(index) for index in (0, 3, 4, 11, 12)] == [(0, 0), (3, 0), (0, 1), (3, 2), (4, 0)]


def test_the_folder_stays_bounded_and_may_be_emptied_at_any_time(dataset, tmp_path):
    folder = tmp_path / "kept"
    samples = ReusedSamples(dataset, folder, keep=2, uses=2)
    seen = [samples[index] for index in range(16)]
    assert len(list(folder.glob("*.npy"))) <= 4
    assert not [path for path in folder.iterdir() if path.suffix != ".npy"]
    again = ReusedSamples(dataset, tmp_path / "other", keep=2, uses=2)
    for index in (15, 2, 7):
        assert all(torch.equal(again[index][key], seen[index][key]) for key in ("image", "label"))
    torch.save({}, next(folder.glob("*.npy")))  # damaged
    assert torch.equal(samples[15]["image"], seen[15]["image"])


def test_a_sample_used_again_is_changed_and_its_labels_stay_true(dataset, tmp_path):
    samples = ReusedSamples(dataset, tmp_path, keep=2, uses=4)
    first = samples[0]
    assert (first["image"] - dataset[0]["image"]).abs().max() <= 0.5 / 255 + 1e-6
    partner = dataset.class_table.mirrored.to(torch.uint8)
    flipped = 0
    for index in (2, 4, 6):
        again = samples[index]
        assert not torch.equal(again["image"], first["image"])
        assert 0 <= again["image"].min() <= again["image"].max() <= 1
        mirrored = partner[first["label"].long()].flip(1)
        assert torch.equal(again["label"], first["label"]) or torch.equal(again["label"], mirrored)
        flipped += torch.equal(again["label"], mirrored)
    assert len(read_labels()) == len(partner)


@pytest.mark.parametrize(("keep", "uses", "found"), [(0, 1, "keep: found 0"), (2, 0, "uses: found 0")])
def test_numbers_out_of_range_are_refused(dataset, tmp_path, keep, uses, found):
    with pytest.raises(OptionError, match=found):
        ReusedSamples(dataset, tmp_path, keep, uses)


def test_samples_of_a_step_stay_together(dataset, tmp_path):
    dataset = SyntheticBrainDataset.__new__(SyntheticBrainDataset)
    dataset.group = 4
    with pytest.raises(OptionError, match="multiple of the 4 samples"):
        ReusedSamples(dataset, tmp_path, keep=6)
