"""The generator: seeded, anatomically consistent, the same in every worker."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from bundle.labels import mirrored_channels, read_labels
from bundle.training import FreshSampler, SyntheticBrainDataset, find_label_maps
from bundle.training.synthesis import SynthesisOptions
from tests.phantom import phantom_codes, write_phantoms

STILL = {
    name: 0.0
    for name in SynthesisOptions.__dataclass_fields__
    if name not in ("elastic_spacing", "thickness")
}  # fmt: skip
CHANNEL = {label.code: label.channel for label in read_labels()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("maps"))


def make_dataset(folder, seed=0, spacing=6.0, window=((96, 96, 96), (144, 144, 144)), **options):
    return SyntheticBrainDataset(find_label_maps(folder), spacing, window, length=4, seed=seed, options=options)


def test_sample_depends_on_seed_and_index_alone(folder):
    first, again, other = make_dataset(folder), make_dataset(folder), make_dataset(folder, seed=1)
    torch.manual_seed(5)
    for index in (0, 3):
        assert torch.equal(first[index]["image"], again[index]["image"])
        assert torch.equal(first[index]["label"], again[index]["label"])
    different = [first[0]["image"], first[1]["image"], other[0]["image"]]
    assert len({image.numpy().tobytes() for image in different}) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing_and_epochs_never_repeat(folder, workers):
    dataset = make_dataset(folder)
    sampler = FreshSampler(dataset)
    loader = DataLoader(dataset, sampler=sampler, num_workers=workers)
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        for step, batch in enumerate(loader):
            assert torch.equal(batch["image"][0], dataset[epoch * 4 + step]["image"])


def test_processes_share_an_epoch(folder):
    dataset = make_dataset(folder)
    seen = []
    for rank in range(2):
        sampler = FreshSampler(dataset, num_replicas=2, rank=rank)
        sampler.set_epoch(3)
        seen += list(sampler)
    assert sorted(seen) == [12, 13, 14, 15]


def test_images_and_labels_are_well_formed(folder):
    dataset = make_dataset(folder)
    for index in range(6):
        sample = dataset[index]
        image, label = sample["image"], sample["label"]
        assert image.shape == label.shape
        assert all(length % 8 == 0 and 16 <= length <= 24 for length in image.shape[1:])
        assert image.dtype == torch.float32
        assert 0 <= image.min() <= image.max() <= 1
        assert set(label.unique().tolist()) <= {0, *(CHANNEL[code] for code in (2, 3, 4, 10, 16, 24, 41, 42, 43, 49))}


def test_without_randomness_the_label_map_comes_back(folder):
    window = ((192, 216, 180), (192, 216, 180))
    dataset = make_dataset(folder, spacing=3.0, window=window, **STILL)
    dataset.maps = dataset.maps[:1]
    sample = dataset[0]
    codes = phantom_codes()
    expected = np.zeros_like(codes)
    for code, channel in CHANNEL.items():
        expected[codes == code] = channel
    found = sample["label"][0].numpy()
    assert np.array_equal(_filled(found), _filled(expected))
    white, grey = found == CHANNEL[2], found == CHANNEL[3]
    image = sample["image"][0].numpy()
    assert image[white].mean() > image[grey].mean() > image[found == CHANNEL[4]].mean()


def _filled(channels):
    """Crop to the voxels that are not background."""
    filled = np.argwhere(channels)
    return channels[tuple(slice(a, b + 1) for a, b in zip(filled.min(0), filled.max(0), strict=True))]


def test_flip_mirrors_the_image_and_swaps_the_sides(folder):
    straight = make_dataset(folder, **STILL)
    mirrored = make_dataset(folder, **{**STILL, "flip": 1.0})
    swap = torch.tensor(mirrored_channels(read_labels()))
    for index in range(2):
        assert torch.equal(mirrored[index]["label"], swap[straight[index]["label"].long()].flip(1).to(torch.uint8))
        assert torch.equal(mirrored[index]["image"], straight[index]["image"].flip(1))
        x = torch.arange(straight[index]["label"].shape[1], dtype=torch.float32)
        sides = [(mirrored[index]["label"][0] == CHANNEL[code]).sum((1, 2)) for code in (2, 41)]
        left, right = ((x * counts).sum() / counts.sum() for counts in sides)
        assert left < right, "left must stay at low x"


def test_stripping_removes_the_head_and_keeps_the_brain(folder):
    stripped = make_dataset(folder, **{**STILL, "strip": 1.0})[0]
    whole = make_dataset(folder, **STILL)[0]
    brain = (whole["label"] > 0) & (whole["label"] != CHANNEL[24])
    assert torch.equal(stripped["label"][brain], whole["label"][brain])
    assert (stripped["image"] == 0).float().mean() > (whole["image"] == 0).float().mean()
    assert (stripped["image"][brain] > 0).float().mean() > 0.95


def test_mirrored_channels_pair_left_with_right():
    labels = read_labels()
    swap = mirrored_channels(labels)
    for label in labels:
        partner = labels[swap[label.channel]]
        assert swap[partner.channel] == label.channel
        assert partner.name.replace("Right-", "Left-") == label.name.replace("Right-", "Left-")
        assert (partner is label) == ("Left-" not in label.name and "Right-" not in label.name)


def test_rare_structures_weigh_more(folder):
    weights = make_dataset(folder).class_weights()
    assert weights.mean() == pytest.approx(1.0)
    assert weights[CHANNEL[4]] > weights[CHANNEL[3]] > weights[0]
    assert weights[CHANNEL[2]] == weights[CHANNEL[41]]


def test_folder_without_label_maps_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no label map found"):
        make_dataset(tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_generator_runs_on_a_gpu(folder):
    dataset = make_dataset(folder)
    label_map = dataset.maps[0]
    moved = type(label_map)(*(tensor.cuda() for tensor in vars(label_map).values()))
    image, label = dataset.synthesise(moved, (16, 16, 16), 6.0, torch.Generator("cuda").manual_seed(0))
    assert image.is_cuda
    assert label.is_cuda
