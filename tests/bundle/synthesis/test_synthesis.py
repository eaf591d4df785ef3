"""The generator: seeded, anatomically consistent, the same in every worker."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion
from torch.utils.data import DataLoader

from bundle.errors import MissingError, OptionError
from bundle.labels import mirrored_channels, read_labels
from bundle.synthesis import FreshSampler, SyntheticBrainDataset, find_label_maps
from bundle.synthesis.deformation import affine_matrix, sample_positions
from bundle.synthesis.draws import Draws
from bundle.synthesis.options import SynthesisOptions
from tests.bundle.synthesis.still import STILL
from tests.phantom import phantom_codes, write_phantoms

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


@pytest.mark.slow
def test_spawned_workers_as_a_gpu_needs_them_change_nothing(folder):
    dataset = make_dataset(folder)
    loader = DataLoader(dataset, num_workers=1, multiprocessing_context="spawn")
    for index, batch in enumerate(loader):
        assert torch.equal(batch["image"][0], dataset[index]["image"])


def test_windows_of_few_sizes_lie_between_the_smallest_and_the_largest(folder):
    dataset = SyntheticBrainDataset(find_label_maps(folder), 1.0, ((96, 128, 96), (128, 176, 128)), length=4, sizes=3)
    assert {dataset.window(index) for index in range(40)} == {(96, 128, 96), (112, 152, 112), (128, 176, 128)}


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
        # Every second voxel gives the quantiles that are scaled to 0 and 1: others in a mirrored image.
        torch.testing.assert_close(mirrored[index]["image"], straight[index]["image"].flip(1), rtol=0, atol=0.01)
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
    with pytest.raises(MissingError, match="no label map found; a folder with NIfTI files is wanted"):
        make_dataset(tmp_path)


def test_flip_is_refused_where_sides_are_no_pairs_and_nothing_else_is(folder, tmp_path):
    rows = "".join(f"{code}\t{name}\n" for code, name in ((2, "left white matter"), (41, "white matter"), (16, "stem")))
    (tmp_path / "dseg.tsv").write_text(f"index\tname\n{rows}")
    arguments = (find_label_maps(folder), 6.0, ((96, 96, 96), (96, 96, 96)), 1)
    with pytest.raises(OptionError, match=r"dseg\.tsv: found left white matter without just one partner"):
        SyntheticBrainDataset(*arguments, label_table=tmp_path / "dseg.tsv")
    still = SyntheticBrainDataset(*arguments, label_table=tmp_path / "dseg.tsv", options={"flip": 0.0})
    assert {1, 2} <= set(still[0]["label"].unique().tolist()) <= {0, 1, 2, 3}


def test_option_of_an_unknown_name_is_refused(folder):
    with pytest.raises(OptionError, match=r"options: found 'no_such'; one of rotation, .*clip_share is wanted"):
        make_dataset(folder, no_such=1.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_anatomy_on_a_gpu_is_that_of_the_cpu(folder):
    on_gpu = SyntheticBrainDataset(
        find_label_maps(folder), 6.0, ((96, 96, 96), (144, 144, 144)), length=4, device="cuda"
    )[1]
    on_cpu = make_dataset(folder)[1]
    assert on_gpu["image"].is_cuda
    assert (on_gpu["label"].cpu() == on_cpu["label"]).float().mean() > 0.999


def test_samples_of_a_group_share_a_window(folder):
    dataset = SyntheticBrainDataset(
        find_label_maps(folder), 6.0, ((96, 96, 96), (144, 144, 144)), length=4, group=2, options={"strip": 1.0}
    )
    windows = [dataset.window(index) for index in range(24)]
    assert all(windows[index] == windows[index + 1] for index in range(0, 24, 2))
    assert len(set(windows)) > 4
    assert tuple(dataset[5]["image"].shape[1:]) == windows[4]


def test_random_contrast_forgets_the_t1_order(folder):
    """With T1 priors white matter is brighter than grey in all samples; with random contrast in about half of them."""

    def brighter(**options):
        dataset = make_dataset(folder, **{**STILL, **options})
        samples = [dataset[index] for index in range(24)]
        means = [
            [sample["image"][sample["label"] == CHANNEL[code]].mean() for code in (2, 3)]  # white, grey
            for sample in samples
        ]
        return sum(white > grey for white, grey in means)

    assert brighter() == 24
    assert 4 <= brighter(random_contrast=1.0) <= 20


def test_swelling_changes_volumes_and_folds_nothing(folder):
    ventricles, folds = [], 0
    dataset = make_dataset(folder, spacing=3.0, window=((192, 216, 180),) * 2, **STILL)
    options = SynthesisOptions(**{**STILL, "swellings": 4, "swelling": 0.35})
    for seed in range(12):
        position = sample_positions(dataset.maps[0], (64, 72, 60), 3.0, 0.0, Draws(seed), options)
        slopes = [position[axis].diff(dim=axis) for axis in range(3)]
        folds += sum(int((slope <= 0).sum()) for slope in slopes)
        classes = dataset.synthesise._nearest(dataset.maps[0].classes, position)
        ventricles.append(int((dataset.class_table.channels[classes] == CHANNEL[4]).sum()))
    assert folds == 0
    assert max(ventricles) > 1.2 * min(ventricles)


def test_cortex_grows_or_shrinks_by_a_voxel_only_at_white_matter(folder):
    dataset = make_dataset(folder, **STILL)
    classes = dataset.maps[0].classes
    white, grey = (dataset.class_table.codes.index(code) for code in (2, 3))
    grown = shrunk = 0
    for seed in range(8):
        varied = dataset.synthesise._vary_cortex(classes, Draws(seed))
        changed = varied != classes
        assert set(classes[changed].unique().tolist()) <= {
            dataset.class_table.codes.index(code) for code in (2, 3, 41, 42)
        }
        gain = int((varied == grey).sum() - (classes == grey).sum())
        assert gain == -int((varied == white).sum() - (classes == white).sum())
        grown, shrunk = grown + (gain > 0), shrunk + (gain < 0)
        border = binary_dilation((classes == grey).numpy(), iterations=1) & binary_dilation((classes == white).numpy())
        assert not (changed & ((classes == white) | (classes == grey))).numpy()[~border].any()
    assert grown > 0
    assert shrunk > 0


@pytest.mark.parametrize("voxels", [1, 2])
def test_ventricles_shrink_as_an_erosion_and_neighbours_take_their_place(folder, voxels):
    dataset = make_dataset(folder, **STILL)
    classes = torch.nn.functional.pad(dataset.maps[0].classes, (1,) * 6)
    before = dataset.class_table.is_ventricle[classes.long()].numpy()
    shrunk = dataset.synthesise._shrink_ventricles(classes, voxels)
    after = dataset.class_table.is_ventricle[shrunk.long()].numpy()
    assert 0 < after.sum() < before.sum()
    assert np.array_equal(after, binary_erosion(before, iterations=voxels))
    assert torch.equal(shrunk[~torch.from_numpy(before)], classes[~torch.from_numpy(before)])
    tissues = dataset.class_table.channels[shrunk.long()][torch.from_numpy(before & ~after)]
    assert set(tissues.tolist()) <= {CHANNEL[code] for code in (2, 3, 10, 24, 41, 42, 49)}


def test_partial_volume_lies_between_the_tissues(folder):
    """A sample on a grid that falls between the voxels of the label map holds intensities between those painted."""
    options = {**STILL, "rotation": 20.0}
    image = make_dataset(folder, spacing=3.0, window=((192, 216, 180),) * 2, **options)[0]["image"]
    assert len(image.unique()) > 1000


def test_field_of_view_can_end_inside_the_brain(folder):
    whole = make_dataset(folder, **STILL)
    cut = make_dataset(folder, **{**STILL, "cut": 1.0, "cut_share": 0.5})
    lost = 0
    for index in range(6):
        full, part = whole[index], cut[index]
        gone = (part["label"] == 0) & (full["label"] > 0)
        lost += int(gone.sum())
        assert part["image"][gone].max() == 0 if gone.any() else True
    assert lost > 0


def test_affine_matrix_without_ranges_is_the_identity():
    assert torch.allclose(affine_matrix(Draws(0), SynthesisOptions(**STILL)), torch.eye(3))
    turned = affine_matrix(Draws(0), SynthesisOptions(**{**STILL, "rotation": 20.0}))
    assert torch.allclose(turned @ turned.T, torch.eye(3), atol=1e-6)
    assert not torch.allclose(turned, torch.eye(3), atol=1e-2)


def test_weights_follow_the_power(folder):
    dataset = make_dataset(folder)
    assert torch.allclose(dataset.class_weights(0.0), torch.ones(len(CHANNEL)))
    half, full = dataset.class_weights(0.5), dataset.class_weights(1.0)
    ratio = lambda weights: weights[CHANNEL[4]] / weights[CHANNEL[3]]  # noqa: E731
    assert ratio(full) == pytest.approx(float(ratio(half) ** 2), rel=1e-4)
