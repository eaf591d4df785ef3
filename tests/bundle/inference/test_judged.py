"""What windows predict together: each counts by what it gives to a group, and mirror images count like the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor

from bundle.inference import StreamInferer
from bundle.inference.judged import judged
from bundle.inference.streamed import notes_of
from bundle.labels import mirrored_channels, read_labels
from tests.judging import GROUPS, network_of, write_brain_folder

TABLE = read_labels()
MEMBERS = [[label.channel for label in TABLE if label.code in codes] for codes in GROUPS.values()]
SIZE = (24, 32, 40)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return network_of(write_brain_folder(tmp_path_factory.mktemp("model")))


@pytest.fixture
def image():
    data = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(0))
    meta = {"original_affine": np.eye(4), "spatial_shape": np.array(SIZE), "filename_or_obj": "scan"}
    return MetaTensor(data, affine=torch.eye(4), meta=meta)


def predict(network, image, tmp_path, window=SIZE, **options):
    inferer = StreamInferer(window, cache_dir=tmp_path, quality=GROUPS, **options)
    with torch.inference_mode():
        result = inferer(image[None], network)[0]
    return notes_of(result).quality, result


def test_one_window_predicts_what_the_network_does(network, image, tmp_path):
    quality, _ = predict(network, image, tmp_path)
    expected = network.forward_with_outputs(image.as_tensor()[None])[1][0].tolist()
    assert quality.values == pytest.approx(expected, abs=1e-6)
    assert list(quality.record()) == list(GROUPS)
    assert quality.record()["cerebellum"] == pytest.approx(expected[3], abs=6e-4)
    assert quality.by_code()[53] == quality.record()["hippocampus and amygdala"]
    assert len({round(value, 3) for value in expected}) > 4, "groups differ in this network"


@pytest.mark.parametrize("batch", [1, 2])
def test_windows_count_by_what_they_give_to_a_group(network, image, tmp_path, batch):
    quality, _ = predict(network, image, tmp_path, (24, 32, 24), sw_batch_size=batch)
    sums, weights = np.zeros(len(GROUPS)), np.zeros(len(GROUPS))
    for start in (0, 16):  # a quarter overlaps, the last one ends with the image
        logits, outputs = network.forward_with_outputs(image.as_tensor()[None, :, :, :, start : start + 24])
        winners = logits[0].argmax(0)
        counts = np.array([np.isin(winners, members).sum() for members in MEMBERS]) + 1e-3
        sums += counts * outputs[0].numpy()
        weights += counts
    assert quality.values == pytest.approx(sums / weights, abs=1e-5)
    plain = [network.forward_with_outputs(image.as_tensor()[None, :, :, :, s : s + 24])[1][0] for s in (0, 16)]
    assert quality.values != pytest.approx(torch.stack(plain).mean(0).tolist(), abs=1e-5)


def test_a_mirror_image_counts_like_the_image(network, image, tmp_path):
    quality, _ = predict(network, image, tmp_path, mirrored=mirrored_channels(TABLE))
    both = [network.forward_with_outputs(part[None])[1][0] for part in (image.as_tensor(), image.as_tensor().flip(1))]
    assert quality.values == pytest.approx(torch.stack(both).mean(0).tolist(), abs=1e-6)


def test_what_is_tried_for_the_plan_does_not_count(network, image, tmp_path):
    quality, _ = predict(network, image, tmp_path, max_memory="400G")
    scarce, _ = predict(network, image, tmp_path / "other", max_memory="1T")
    assert scarce == quality
    judging = judged(network, GROUPS, TABLE, several=False)
    judging(torch.zeros(1, 1, 16, 16, 16))
    judging.clear()
    judging(image.as_tensor()[None])
    assert judging.quality().values == pytest.approx(quality.values, abs=1e-6)


def test_labels_are_those_of_a_network_that_is_not_asked(network, image, tmp_path):
    for window in (SIZE, (24, 32, 24)):
        _, asked = predict(network, image, tmp_path, window)
        inferer = StreamInferer(window, cache_dir=tmp_path)
        with torch.inference_mode():
            plain = inferer(image[None], network)[0]
        assert torch.equal(asked.as_tensor(), plain.as_tensor())
        assert notes_of(plain).quality is None


def test_a_network_of_other_outputs_is_not_asked(network):
    assert judged(network, None, TABLE, several=False) is None
    assert judged(network, {"one": [2]}, TABLE, several=False) is None
    assert judged(torch.nn.Identity(), GROUPS, TABLE, several=False) is None
