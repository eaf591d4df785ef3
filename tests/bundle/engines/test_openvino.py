"""OpenVINO: one compiled model for each shape, right where compiled for all shapes it would not be."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from bundle.engines import load_network
from bundle.engines.cache import keep_newest
from bundle.engines.converted import OpenVinoNetwork
from bundle.errors import ExportError
from tests.tiny_network import save_weights, tiny_network

HAS_BF16 = torch.cpu._is_avx512_bf16_supported()


@pytest.mark.skipif(HAS_BF16, reason="this processor computes in bfloat16")
def test_openvino_refuses_bfloat16_that_the_processor_only_emulates(tiny_checkpoint):
    with pytest.raises(ExportError, match="without AVX-512 BF16; 'auto' is wanted"):
        load_network(tiny_network(), tiny_checkpoint, "openvino", "bfloat16")


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")
def test_openvino_computes_in_bfloat16(tiny, tiny_checkpoint, tmp_path):
    engine = load_network(tiny_network(), tiny_checkpoint, "openvino", "auto", cache_dir=tmp_path)
    image = torch.rand(1, 1, 16, 24, 16)
    assert engine.precision == "bfloat16"
    difference = (engine(image) - tiny(image)).abs().max()
    assert 1e-4 < difference < 0.05 * tiny(image).abs().max()


def test_openvino_keeps_the_shapes_of_late_and_never_more_than_some(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("bundle.engines.converted.KEPT_COMPILED", 2)
    engine = load_network(tiny_network(), tiny_checkpoint, "openvino", "float32", cache_dir=tmp_path)
    for length in (16, 24, 32, 40):
        engine(torch.rand(1, 1, 16, 16, length))
        assert 1 <= len(list((tmp_path / "compiled").iterdir())) <= 2


def test_newest_files_of_a_folder_are_kept(tmp_path):
    for age, name in enumerate(("new", "newer", "old", "oldest")):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1e9 - 100 * age,) * 2)
    os.utime(tmp_path / "oldest", (2e9, 1e9 - 1000))  # read just now
    keep_newest(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "oldest"]
    keep_newest(tmp_path / "nowhere", 2)


def test_openvino_is_right_after_an_image_of_one_key(tmp_path):
    # Compiled for all shapes, OpenVINO 2026.4.1 answers with noise for the rest of the process after a first image
    # whose pooled keys are a single one.
    network = tiny_network(attention="pooled")
    engine = load_network(network, save_weights(network, tmp_path), "openvino", "float32", cache_dir=tmp_path)
    for shape in ((9, 9, 9), (40, 50, 30), (64, 48, 64), (40, 50, 30)):
        image = torch.rand(1, 1, *shape)
        torch.testing.assert_close(engine(image), network(image), atol=2e-4, rtol=1e-5)


class Resampling(nn.Module):
    """A network that adds a grid of weights, resampled to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels = 1
        self.conv = nn.Conv3d(1, 4, 1)
        self.grid = nn.Parameter(torch.randn(1, 4, 12, 14, 12))

    def forward(self, x):
        """Add it."""
        grid = nn.functional.interpolate(self.grid, size=list(x.shape[2:]), mode="trilinear", align_corners=False)
        return self.conv(x) + grid


def test_openvino_resamples_weights_rightly(tmp_path):
    network = Resampling().eval().requires_grad_(False)
    engine = load_network(network, save_weights(network, tmp_path), "openvino", "float32", cache_dir=tmp_path)
    assert isinstance(engine, OpenVinoNetwork)
    assert engine.of_any_shape, "folded into a constant of a known size, it would be wrong"
    for shape in ((12, 16, 10), (16, 24, 16), (12, 16, 10)):
        image = torch.rand(1, 1, *shape)
        torch.testing.assert_close(engine(image), network(image), atol=2e-4, rtol=1e-5)
