"""Features and the last layer of a network, against the logits that it gives as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bundle.engines.head import Features, Head
from bundle.engines.networks import TorchNetwork
from bundle.inference import StreamInferer, ranking, stream_labels
from bundle.inference.logits import Logits
from bundle.inference.slabs import Windows
from tests.bundle.inference.test_judged import MetaTensor
from tests.bundle.inference.test_restore import rotation

SIZE, CLASSES = (20, 18, 22), 9
SCANS = {
    "on the grid": (np.eye(4), SIZE),
    "finer": (np.diag([0.7, 0.8, 0.6, 1.0]), (26, 22, 30)),
    "oblique": (np.diag([0.9, 0.8, 0.9, 1.0]) @ rotation(12, 1), (20, 20, 20)),
}


def make_network(seed=0) -> TorchNetwork:
    torch.manual_seed(seed)
    layers = nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, CLASSES, 1)
    network = TorchNetwork(nn.Sequential(*layers), bfloat16=False).eval()
    with torch.no_grad():
        network.head.weight.mul_(8)
    return network


def make_image(size=SIZE):
    return torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(1))


def random_head():
    random = torch.Generator().manual_seed(3)
    return Head(torch.randn(CLASSES, 4, generator=random), torch.randn(CLASSES, generator=random))


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("window", [SIZE, (12, 10, 12)], ids=["one window", "several"])
@pytest.mark.parametrize("one_piece", [(), range(1, CLASSES)], ids=["", "pieces"])
@pytest.mark.parametrize("cache", [2000, 1 << 21])
def test_features_give_the_labels_and_notes_of_logits(name, window, one_piece, cache, monkeypatch):
    monkeypatch.setattr(ranking, "CACHE_BYTES", cache)
    network, windows = make_network(), Windows(SIZE, window, (0.25,) * 3)
    with torch.inference_mode():
        expected, noted = stream_labels(make_image(), network, windows, *SCANS[name], one_piece)
        found, notes = stream_labels(
            make_image(), Features(network), windows, *SCANS[name], one_piece, head=network.head
        )
    assert len(expected.unique()) > 4
    assert (found != expected).float().mean() < 1e-3, "but for ties"
    assert notes.dropped.keys() == noted.dropped.keys()
    assert sum(notes.dropped.values()) == pytest.approx(sum(noted.dropped.values()), rel=0.02)
    assert notes.confidence == pytest.approx(noted.confidence, abs=2e-3)
    assert bool(notes.dropped) == bool(one_piece)


def test_an_engine_gives_features_where_its_last_layer_is_pointwise():
    network, image = make_network(), make_image()
    with torch.inference_mode():
        logits, features = network(image), Features(network)(image)
        assert features.shape[1] == 4
        found = network.head(features[0].flatten(1)).view(logits.shape)
        assert torch.allclose(found, logits, atol=1e-5)
        assert torch.equal(network(image), logits), "the last layer is back"
    assert TorchNetwork(nn.Sequential(nn.Conv3d(1, 4, 3)), bfloat16=False).head is None
    assert TorchNetwork(nn.Conv3d(1, 4, 3), bfloat16=False).head is None


@pytest.mark.parametrize("window", [SIZE, (12, 10, 12)], ids=["one window", "several"])
def test_mirror_images_are_averaged_before_the_last_layer(window, tmp_path):
    mirrored = [0, 2, 1, 4, 3, 5, 6, 8, 7]
    network = make_network()
    meta = {"original_affine": np.eye(4), "spatial_shape": np.array(SIZE), "filename_or_obj": "scan"}
    image = MetaTensor(make_image()[0], affine=torch.eye(4), meta=meta)
    table = tmp_path / "labels.tsv"
    rows = [f"{channel}\t{channel}\tpart-{channel}\t{channel}\t0\t0" for channel in range(CLASSES)]
    table.write_text("\n".join(["channel\tcode\tname\tred\tgreen\tblue", *rows]) + "\n")
    inferer = StreamInferer(window, mirrored=mirrored, label_table=table, cache_dir=tmp_path)
    with torch.inference_mode():
        found = inferer(image[None], network)[0].as_tensor()
        expected = inferer.logits(image[None], network)[0].argmax(0)
    assert (found != expected).float().mean() < 1e-3, "but for ties"


def test_parts_and_voxels_are_those_of_the_whole():
    head = random_head()
    values = torch.randn(4, 6, 5, 7).bfloat16()
    whole = head(values.flatten(1)).view(CLASSES, 6, 5, 7)
    logits = Logits(values, head)
    assert logits.shape == whole.shape
    assert torch.allclose(logits.of(slice(1, 4), slice(None), slice(2, 7)), whole[:, 1:4, :, 2:7], atol=1e-5)
    voxels = np.array([[0, 5, 2], [4, 0, 3], [6, 1, 2]])
    assert torch.allclose(logits.at(voxels), whole[:, voxels[0], voxels[1], voxels[2]], atol=1e-5)
    assert torch.equal(logits.winners().long(), whole.argmax(0))
    assert torch.allclose(Head(head.weight)(values[:, 0, 0]), head.weight @ values[:, 0, 0].float(), atol=1e-5)


@pytest.mark.parametrize("late", [False, True])
def test_a_forbidden_class_is_minus_infinity_wherever_it_is_looked_at(late):
    values = torch.randn(4, 6, 5, 7)
    head = random_head() if late else None
    logits = Logits(values, head)
    voxels = np.array([[0, 5, 2], [4, 0, 3], [6, 1, 2]])
    logits.forbid(2, voxels)
    everywhere = torch.zeros(logits.shape, dtype=torch.bool)
    everywhere[2][tuple(voxels)] = True
    assert torch.equal(logits.of(slice(None), slice(None), slice(None)).isinf(), everywhere)
    assert torch.equal(logits.of(slice(1, 6), slice(0, 4), slice(1, 7)).isinf(), everywhere[:, 1:6, 0:4, 1:7])
    asked = np.array([[5, 1, 2], [0, 1, 3], [1, 1, 2]])
    assert logits.at(asked).isinf().nonzero().tolist() == [[2, 0], [2, 2]]
