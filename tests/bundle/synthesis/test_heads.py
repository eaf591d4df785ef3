"""Heads around brain-only label maps: the brain stays, layers in order, what is unsure does not count."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, distance_transform_edt

from bundle.errors import OptionError
from bundle.label_groups import IGNORED_CHANNEL
from bundle.labels import read_labels
from bundle.synthesis import SyntheticBrainDataset, find_label_maps, held_out
from bundle.synthesis.draws import Draws
from bundle.synthesis.extra_cerebral import closed_distance
from tests.bundle.synthesis.still import STILL
from tests.phantom import SPACING, brain_codes, write_phantoms

CHANNEL = {label.code: label.channel for label in read_labels()}
WINDOW = ((240, 240, 240), (240, 240, 240))


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    path = tmp_path_factory.mktemp("brains") / "brain.nii.gz"
    nib.Nifti1Image(brain_codes(), np.diag([SPACING] * 3 + [1.0])).to_filename(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("heads"), 1)


def make_dataset(folder, brain, donor=0.0, ignore=(24,), **options):
    brains = {"data": [brain], "share": 1.0, "ignore": list(ignore), "extra_cerebral": {"donor": donor}}
    maps = find_label_maps(folder)
    return SyntheticBrainDataset(maps, SPACING, WINDOW, 4, options={**STILL, **options}, brains=brains)


def made_head(dataset, seed=0):
    """Codes of a head, and those of the brain on the same grid."""
    original = dataset.brains[0]
    head = dataset.make_head(original, Draws(seed))
    codes = np.array(dataset.class_table.codes)
    offset = (head.brain_centre - original.brain_centre).int().tolist()
    brain = np.zeros(head.classes.shape, int)
    inside = tuple(slice(a, a + n) for a, n in zip(offset, original.classes.shape, strict=True))
    brain[inside] = codes[original.classes.numpy()]
    return codes[head.classes.numpy()], brain


@pytest.mark.parametrize("donor", [0.0, 1.0], ids=["shells", "donor"])
def test_the_brain_stays_as_it_is_and_never_touches_bone(folder, brain, donor):
    dataset = make_dataset(folder, brain, donor)
    for seed in range(4):
        head, own = made_head(dataset, seed)
        assert np.array_equal(head[own > 0], own[own > 0])
        tissue = np.isin(own, [2, 3, 41, 42])
        assert not (binary_dilation(tissue) & np.isin(head, [515, 516])).any()
        assert {24, 511, 515} <= set(np.unique(head).tolist())


def test_layers_of_shells_follow_one_another_and_differ_between_samples(folder, brain):
    dataset = make_dataset(folder, brain)
    heads = [made_head(dataset, seed) for seed in range(3)]
    for head, own in heads:
        distance = distance_transform_edt(~(own > 0)) * SPACING
        above = np.zeros_like(own, bool)
        above[:, :, own.shape[2] // 2 + 8 :] = True  # the vault: neither face nor neck
        means = [distance[above & np.isin(head, codes)].mean() for codes in ([24], [515, 516], [541], [511])]
        assert means == sorted(means)
        assert (head[0] == 0).all(), "the head ends before the margin does at the sides"
    assert not np.array_equal(heads[0][0], heads[1][0])


def test_sulci_become_fluid(folder, brain, tmp_path):
    codes = brain_codes()
    codes[31:33, 50:, 38:46] = 0  # a gap of 6 mm that opens to the front
    nib.Nifti1Image(codes, np.diag([SPACING] * 3 + [1.0])).to_filename(tmp_path / "a.nii.gz")
    head, own = made_head(make_dataset(folder, tmp_path / "a.nii.gz"))
    gap = (made_head(make_dataset(folder, brain))[1] > 0) & (own == 0)
    assert gap.sum() > 40
    assert (head[gap] == 24).mean() > 0.95


def test_depth_of_a_ball_is_its_distance():
    edges = np.stack(np.meshgrid(*[np.arange(80.0)] * 3, indexing="ij")) - 39.5
    radius = np.sqrt((edges**2).sum(0))
    depth = closed_distance(torch.from_numpy((radius < 20).astype(np.uint8)), torch.tensor([1.0, 1.0, 1.0])).numpy()
    centres = np.minimum(3 * np.arange(27) + 1.0, 79) - 39.5
    true = np.sqrt(sum(part**2 for part in np.meshgrid(*[centres] * 3, indexing="ij"))) - 20
    shell = np.abs(true) < 15
    assert np.abs(depth - true)[shell].max() < 4.5
    assert abs((depth - true)[shell].mean()) < 1.0


def test_what_the_maps_draw_by_other_rules_does_not_count(folder, brain):
    counted = make_dataset(folder, brain, ignore=())[0]["label"]
    ignored = make_dataset(folder, brain, ignore=(24, 10))[0]["label"]
    thalamus = counted == CHANNEL[10]
    assert thalamus.any()
    assert (ignored[thalamus] == IGNORED_CHANNEL).all()
    fluid = counted == CHANNEL[24]
    assert 0 < (ignored[fluid] == IGNORED_CHANNEL).float().mean() < 0.2, "the pocket alone, not the fluid around"
    rest = ~(ignored == IGNORED_CHANNEL)
    assert torch.equal(ignored[rest], counted[rest])


def test_flips_leave_what_does_not_count_alone(folder, brain):
    straight, mirrored = (make_dataset(folder, brain, ignore=(10,), flip=flip)[0]["label"] for flip in (0.0, 1.0))
    assert torch.equal((straight == IGNORED_CHANNEL).flip(1), mirrored == IGNORED_CHANNEL)


def test_share_decides_how_often_brains_are_seen(folder, brain):
    maps, brains = find_label_maps(folder), {"data": [brain], "share": 0.25, "ignore": [10]}
    dataset = SyntheticBrainDataset(maps, 6.0, ((96,) * 3,) * 2, 4, options=STILL, brains=brains)
    seen = sum(bool((dataset[index]["label"] == IGNORED_CHANNEL).any()) for index in range(32))
    assert 2 <= seen <= 15


def test_without_brains_nothing_changes(folder):
    maps = find_label_maps(folder)
    plain = SyntheticBrainDataset(maps, 6.0, ((96,) * 3,) * 2, 4)
    none = SyntheticBrainDataset(maps, 6.0, ((96,) * 3,) * 2, 4, brains={"data": [], "share": 0.5})
    assert torch.equal(plain[1]["image"], none[1]["image"])


@pytest.mark.parametrize(
    ("brains", "found"),
    [
        ({"portion": 1}, "brains: found 'portion'"),
        ({"share": 2.0}, "share: found 2.0"),
        ({"extra_cerebral": {"bone": 1}}, "extra_cerebral: found 'bone'"),
    ],
)
def test_unknown_entries_are_refused(folder, brain, brains, found):
    with pytest.raises(OptionError, match=found):
        SyntheticBrainDataset(find_label_maps(folder), 6.0, ((96,) * 3,) * 2, 1, brains={"data": [brain], **brains})


def test_held_out_maps_are_spread_and_never_train():
    paths = [f"{index:02}.nii.gz" for index in range(20)]
    out, training = held_out(paths, 3, "held_out"), held_out(paths, 3)
    assert out == ["03.nii.gz", "10.nii.gz", "16.nii.gz"]
    assert sorted(out + training) == paths
    assert held_out(paths, 0) == paths
    with pytest.raises(OptionError, match="0 to 19 of 20 maps"):
        held_out(paths, 20)
