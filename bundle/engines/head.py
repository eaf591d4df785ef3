"""The last layer of a network apart from the rest, where each voxel's logits follow from its own features alone.

Such a layer, a 1x1x1 convolution, is linear: whether windows are weighted and added before it or after it is the same.
Before it there are fewer channels, 16 features where the shipped network has 33 classes, and its answer is needed a
few voxels at a time only, where it stays in a processor's cache (``bundle.inference.logits``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Head:
    """A linear map from the features of a voxel to its logits.

    Attributes:
        weight: shape (classes, channels), float32.
        bias: shape (classes,), or ``None``.
    """

    weight: Tensor
    bias: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self.weight)

    @property
    def channels(self) -> int:
        """Number of features."""
        return self.weight.shape[1]

    def __call__(self, features: Tensor) -> Tensor:
        """Map features (channels, K) of any number format to logits (classes, K), float32."""
        features = features.to(self.weight.dtype)
        if self.bias is None:
            return self.weight @ features
        return torch.addmm(self.bias[:, None], self.weight, features)

    def averaged_with_mirror(self, mirrored: Sequence[int]) -> Head:
        """Return the map from the features of a voxel and those of its mirror image to the mean of their logits.

        Args:
            mirrored: for each class the class on the other side of the body.
        """
        bias = None if self.bias is None else (self.bias + self.bias[list(mirrored)]) / 2
        return Head(torch.cat([self.weight, self.weight[list(mirrored)]], dim=1) / 2, bias)


def is_pointwise(module: nn.Module) -> bool:
    """Tell whether a module is a 3D convolution of one voxel, without stride, padding and groups."""
    if not isinstance(module, nn.Conv3d):
        return False
    sizes = (*module.kernel_size, *module.stride)
    padding = module.padding if isinstance(module.padding, tuple) else (0,)
    return set(sizes) == {1} and not any(padding) and module.groups == 1


def head_name(network: nn.Module) -> str | None:
    """Return the name of the pointwise convolution that is the last thing a network does, ``None`` where there is none.

    A class names it in ``HEAD``; of a ``Sequential`` it is the last part.
    """
    name = str(len(network) - 1) if isinstance(network, nn.Sequential) else getattr(network, "HEAD", None)
    return name if name is not None and is_pointwise(network.get_submodule(name)) else None


class Features:
    """A network without its head, as a function of windows.

    Args:
        network: an engine's network that has a head, see ``bundle.engines.networks.EngineNetwork.head``.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self.head: Head = network.head
        self.num_outputs: int = network.num_outputs

    def __call__(self, windows: Tensor) -> Tensor:
        """Map windows (B, C, X, Y, Z) to features (B, channels, X, Y, Z)."""
        with self.network.without_head():
            features: Tensor = self.network.compute(windows)
        return features

    def forward_with_outputs(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of windows, and the network's outputs for the whole scan."""
        with self.network.without_head():
            features, outputs = self.network.compute_with_outputs(windows)
        return features, outputs


@contextlib.contextmanager
def switched_on(module: Any, name: str) -> Iterator[None]:
    """Set an attribute of an object to ``True`` inside the context, and to ``False`` at its end."""
    setattr(module, name, True)
    try:
        yield
    finally:
        setattr(module, name, False)
