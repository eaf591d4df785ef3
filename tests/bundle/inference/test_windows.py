"""WindowInferer: one window where the image fits, MONAI's stitching where it does not."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from bundle.inference import WindowInferer


class Recorder(torch.nn.Module):
    """Returns its input twice as two classes and notes the window sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert type(x) is torch.Tensor
        self.sizes.append(tuple(x.shape[2:]))
        return torch.cat([x, -x], dim=1)


def test_image_that_fits_is_one_window_of_its_own_size():
    network, image = Recorder(), MetaTensor(torch.rand(1, 1, 20, 17, 9))
    result = WindowInferer((24, 24, 24))(image, network)
    assert network.sizes == [(20, 17, 9)]
    assert torch.equal(result[:, :1], image.as_tensor())


def test_larger_image_is_stitched_as_monai_does():
    network, image = Recorder(), torch.rand(1, 1, 40, 17, 30)
    result = WindowInferer((24, 24, 24), overlap=0.25)(image, network)
    assert set(network.sizes) == {(24, 17, 24)}
    expected = SlidingWindowInferer((24, 17, 24), overlap=0.25, mode="gaussian")(image, Recorder())
    assert torch.equal(result, expected)
    torch.testing.assert_close(result[:, :1], image)


@pytest.mark.parametrize("sizes", [[(40, 40, 40), (10, 10, 10), (40, 40, 40)]])
def test_one_inferer_serves_images_of_any_size(sizes):
    inferer = WindowInferer((24, 24, 24))
    for size in sizes:
        network = Recorder()
        assert inferer(torch.rand(1, 1, *size), network).shape == (1, 2, *size)
        assert set(network.sizes) == {tuple(min(24, length) for length in size)}


@pytest.mark.parametrize("size", [(20, 17, 9), (40, 17, 30)])
def test_mirror_images_get_mirrored_answers(size):
    """The network tells its classes apart by place, so that only the average makes both sides alike."""

    def by_place(window: torch.Tensor) -> torch.Tensor:
        place = torch.linspace(-1, 2, window.shape[2])[:, None, None]
        return torch.cat([window * place, window * place**2, window + place], dim=1)

    image, mirrored = torch.rand(1, 1, *size), [0, 2, 1]
    inferer = WindowInferer((24, 24, 24), mirrored=mirrored)
    found, other = inferer(image, by_place), inferer(image.flip(2), by_place)
    torch.testing.assert_close(other.flip(2)[:, mirrored], found)
    plain = WindowInferer((24, 24, 24))
    expected = (plain(image, by_place) + plain(image.flip(2), by_place).flip(2)[:, mirrored]) / 2
    torch.testing.assert_close(found, expected)
    assert (found - plain(image, by_place)).abs().max() > 0.1
