"""Streaming, against the logits as a whole: MONAI's sliding window, linear interpolation at full size, argmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch.nn import functional

from bundle.engines.head import Head
from bundle.inference import ranking, stream_labels, sums
from bundle.inference.slabs import Windows, logit_blocks
from tests.bundle.inference.test_restore import full_size_reference, rotation
from tests.threads import one_thread

CLOSE = 2e-5
"""Lead of the winner below which float32 may decide otherwise than float64: a tie."""


class RandomNetwork:
    """A 3 x 3 x 3 convolution with random weights, and a last layer or not; notes the most windows at a time."""

    def __init__(self, classes: int, seed: int, features: int | None = None) -> None:
        self.classes, self.seed = classes, seed
        generator = torch.Generator().manual_seed(seed)
        self.weights = torch.randn(features or classes, 1, 3, 3, 3, generator=generator)
        self.head = None
        if features:
            weight = torch.randn(classes, features, generator=generator) / features**0.5
            self.head = Head(weight, torch.randn(classes, generator=generator))
        self.most = 0

    def draw_image(self, size) -> torch.Tensor:
        """Return a random image that goes with its seed."""
        return torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(self.seed))

    def features(self, windows: torch.Tensor) -> torch.Tensor:
        """Return what comes before the last layer, or the logits where there is none."""
        self.most = max(self.most, len(windows))
        return functional.conv3d(windows, self.weights, padding=1)

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        found = self.features(windows)
        if self.head is None:
            return found
        weight, bias = self.head.weight, self.head.bias
        return functional.conv3d(found, weight[:, :, None, None, None], bias)


@st.composite
def cases(draw):
    """Draw an image's shape, its windows, and a scan that lies on it in some way."""
    size = tuple(draw(st.integers(2, 16)) for _ in range(3))
    window = tuple(draw(st.integers(1, length)) for length in size)
    overlap = tuple(draw(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8])) for _ in range(3))
    windows = Windows(size, window, overlap, draw(st.sampled_from(["gaussian", "constant"])), draw(st.integers(1, 5)))
    order, signs = draw(st.permutations(range(3))), [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    spacing = [draw(st.floats(0.4, 3.0)) for _ in range(3)]
    scan = np.eye(4)
    on_grid = draw(st.integers(0, 3)) == 0  # its voxels are the image's, as those of a scan that was only cropped
    scan[:3, :3] = (np.eye(3)[order] * signs) * (1.0 if on_grid else spacing)
    scan[:3, 3] = [draw(st.integers(-3, length + 2) if on_grid else st.floats(-3, length + 2)) for length in size]
    if not on_grid and draw(st.booleans()):
        scan = scan @ rotation(draw(st.floats(-40, 40)), draw(st.integers(0, 2)))
    shape = tuple(draw(st.integers(1, 18)) for _ in range(3))
    classes, features = draw(st.sampled_from([2, 3, 7, 33, 300])), draw(st.sampled_from([None, 1, 4, 16]))
    return windows, scan, shape, RandomNetwork(classes, draw(st.integers(0, 2**16)), features)


def few_at_a_time(patch, network) -> None:
    """Cut small images as large ones are, between all edges of windows for every other seed."""
    patch.setattr(sums, "SHORTEST_SIDE", 1 + 100 * (network.seed % 2))
    patch.setattr(sums, "TURNED_BYTES", 4000)
    patch.setattr(ranking, "CACHE_BYTES", 4 * network.classes * 100)


def check(case) -> None:
    windows, to_grid, shape, network = case
    image = network.draw_image(windows.size)
    with one_thread():
        logits = sliding_window_inference(
            image, windows.window, windows.batch, network, overlap=windows.overlap, mode=windows.mode
        )[0]
        network.most = 0
        with pytest.MonkeyPatch.context() as patch:
            few_at_a_time(patch, network)
            found, _ = stream_labels(image, network.features, windows, to_grid, shape, head=network.head)
    expected, lead = full_size_reference(logits, np.eye(4), to_grid, shape)
    wrong = (found.numpy() != expected) & (lead > CLOSE)
    assert not wrong.any()
    assert network.most <= windows.batch
    assert tuple(found.shape) == shape


FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
MANY = settings(FEW, max_examples=250, derandomize=False, phases=(Phase.explicit, Phase.generate))


@FEW
@given(cases())
def test_labels_equal_those_of_the_logits_as_a_whole(case):
    check(case)


@FEW
@given(cases(), st.booleans())
def test_blocks_hold_the_logits_of_each_voxel_once(case, whole_planes):
    windows, _, _, network = case
    image = network.draw_image(windows.size)
    with one_thread(), pytest.MonkeyPatch.context() as patch:
        few_at_a_time(patch, network)
        expected = sliding_window_inference(
            image, windows.window, windows.batch, network, overlap=windows.overlap, mode=windows.mode
        )[0].permute(0, *(axis + 1 for axis in windows.order))
        found, times = torch.zeros_like(expected), torch.zeros(expected.shape[1:])
        for block in logit_blocks(image, network.features, windows, slabs=whole_planes, head=network.head):
            everything = block.logits.of(slice(None), slice(None), slice(None))
            found[(slice(None), *block.place)] = everything / (1 if block.weights is None else block.weights)
            assert block.seam == int(whole_planes and bool(times.any()))
            assert not whole_planes or block.logits.shape[2:] == expected.shape[2:]
            times[block.place][block.seam :] += 1
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4)
    assert (times == 1).all()


@pytest.mark.slow
@MANY
@given(cases())
def test_labels_equal_those_of_the_logits_as_a_whole_in_many_cases(case):
    check(case)
