"""Lesions in training samples: what changes in the image, and what in the labels."""

from __future__ import annotations

import pytest
import torch

from bundle.labels import read_labels
from bundle.synthesis import SyntheticBrainDataset, find_label_maps
from tests.bundle.synthesis.still import STILL
from tests.phantom import write_phantoms

CHANNEL = {label.code: label.channel for label in read_labels()}
VENTRICLES = (CHANNEL[4], CHANNEL[43])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("maps"), 1)


def samples(folder, count=8, **options):
    window = ((192, 216, 180), (192, 216, 180))
    dataset = SyntheticBrainDataset(find_label_maps(folder), 3.0, window, 4, options={**STILL, **options})
    return [dataset[index] for index in range(count)]


def voxels(label, codes):
    return int(torch.isin(label, torch.tensor([CHANNEL[code] for code in codes], dtype=label.dtype)).sum())


def test_a_cavity_is_fluid_in_image_and_labels_and_leaves_the_skull(folder):
    whole = samples(folder, 1)[0]["label"]
    for sample in samples(folder, cavities=1.0):
        gone = whole != sample["label"]
        assert gone.sum() > 10
        assert (sample["label"][gone] == CHANNEL[24]).all()
        assert (whole[gone] > 0).all()
        assert sample["image"][gone].mean() < sample["image"][sample["label"] == CHANNEL[2]].mean() - 0.2


def test_a_tumour_changes_intensities_and_keeps_or_displaces_labels(folder):
    whole = samples(folder, 1)[0]
    kept = displaced = 0
    for sample in samples(folder, 12, tumours=1.0):
        same = torch.equal(sample["label"], whole["label"])
        kept, displaced = kept + same, displaced + (not same)
        assert sorted(sample["label"].unique().tolist()) == sorted(whole["label"].unique().tolist())
        white = sample["label"] == CHANNEL[2]
        if same:
            assert not torch.equal(sample["image"], whole["image"])
        assert white.any()
    assert kept > 2
    assert displaced > 2


def test_lesions_darken_white_matter_alone_and_mostly_beside_the_ventricles(folder):
    still = {**STILL, "white_matter_lesions": 0.0}
    plain = SyntheticBrainDataset(find_label_maps(folder), 3.0, ((192, 216, 180),) * 2, 4, options=still)
    from bundle.synthesis.draws import Draws
    from bundle.synthesis.lesions import paint_white_matter_lesions

    anatomy, table = plain.maps[0], plain.class_table
    painted = torch.full(anatomy.classes.shape, 0.8)
    found = [
        paint_white_matter_lesions(painted, anatomy.classes, anatomy.spacing, table, Draws(seed)) for seed in range(8)
    ]
    darker = torch.stack([image < 0.75 for image in found]).float().mean(0)
    codes = torch.tensor(table.codes)[anatomy.classes.long()]
    white = (codes == 2) | (codes == 41)
    assert darker[~white].max() == 0
    assert darker[white].mean() > 0.005
    ventricle = ((codes == 4) | (codes == 43))[None, None].float()
    near = torch.nn.functional.max_pool3d(ventricle, 5, 1, 2)[0, 0] > 0
    assert darker[white & near].mean() > 2 * darker[white & ~near].mean()


def test_large_ventricles_take_white_matter_alone(folder):
    whole = samples(folder, 1)[0]["label"]
    for sample in samples(folder, 4, large_ventricles=1.0):
        changed = whole != sample["label"]
        assert changed.sum() > 20
        assert torch.isin(whole[changed], torch.tensor([CHANNEL[2], CHANNEL[41]], dtype=torch.uint8)).all()
        assert torch.isin(sample["label"][changed], torch.tensor(VENTRICLES, dtype=torch.uint8)).all()
