"""A network that an engine computes, as a module that maps images to logits: any MONAI inferer runs it."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.engines.channels_last import PointwiseConv, to_channels_last
from bundle.engines.head import Head, head_name, switched_on
from bundle.engines.slabwise import go_slabwise
from bundle.engines.state import hide_in_state_dict
from bundle.errors import ExportError


class EngineNetwork(nn.Module):
    """A network that an engine computes: the base of all of them.

    Args:
        engine: what computes it, one of ``bundle.choices.ENGINES`` but ``"auto"``.
        bfloat16: whether it computes in bfloat16; logits are float32 all the same.

    Attributes:
        engine: its name.
        precision: ``"bfloat16"`` or ``"float32"``.
    """

    engine: str
    precision: str
    num_outputs: int = 0
    """Outputs for a whole scan that it has beside its logits."""

    def __init__(self, engine: str, bfloat16: bool) -> None:
        super().__init__()
        self.engine = engine
        self.precision = "bfloat16" if bfloat16 else "float32"

    @property
    def head(self) -> Head | None:
        """The last layer, where ``bundle.engines.head.Features`` can leave it out."""
        return None

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, C, D, H, W) to logits (B, classes, D, H, W), float32, on the image's device."""
        raise NotImplementedError

    def forward_with_outputs(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of an image, and its outputs for the whole scan, (B, num_outputs), float32.

        Only networks whose ``num_outputs`` is not 0 have any.
        """
        raise NotImplementedError


class InFloat32(nn.Module):
    """A part of a network that computes in float32 under autocast, too.

    Args:
        part: the part.
        dtype: what its answer is given in.
    """

    def __init__(self, part: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.part = part
        self.dtype = dtype
        hide_in_state_dict(self, "part")

    def forward(self, x: Tensor) -> Tensor:
        """Map what the part maps."""
        with torch.autocast(x.device.type, enabled=False):
            result: Tensor = self.part(x if isinstance(self.part, PointwiseConv) else x.float())
        return result.to(self.dtype)


class LastLayer(InFloat32):
    """The layer that gives the logits, in float32.

    Args:
        part: the layer.

    Attributes:
        left_out: whether it hands on what it gets.
    """

    def __init__(self, part: nn.Module) -> None:
        super().__init__(part, torch.float32)
        self.left_out = False

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, channels, D, H, W) to logits (B, classes, D, H, W), unless it is left out."""
        return x if self.left_out else super().forward(x)


class TorchNetwork(EngineNetwork):
    """A PyTorch or TorchScript module, under autocast where bfloat16 is wanted.

    A PyTorch module is changed in place: on a CPU it computes with channels last, in bfloat16 the parts that its class
    names in ``FLOAT32_PARTS`` stay in float32, and so does its last layer (``bundle.engines.head``).

    Args:
        network: maps (B, C, D, H, W) to logits; lies on the device already.
        bfloat16: whether to compute in it.
        constants: buffers that a scripted network has and the one that it was made of does not save.
    """

    def __init__(self, network: nn.Module, bfloat16: bool, constants: Collection[str] = ()) -> None:
        scripted = isinstance(network, torch.jit.ScriptModule)
        super().__init__("torchscript" if scripted else "torch", bfloat16)
        self.last: LastLayer | None = None
        if not scripted:
            network = self._prepared(network, bfloat16)
        self.network = network
        self.num_outputs = outputs_of(network)
        hide_in_state_dict(self, "network", constants)

    def _prepared(self, network: nn.Module, bfloat16: bool) -> nn.Module:
        device = next(network.parameters(), torch.empty(0)).device
        network = go_slabwise(to_channels_last(network)) if device.type == "cpu" else network
        last = head_name(network)
        parts: tuple[str, ...] = getattr(network, "FLOAT32_PARTS", ()) if bfloat16 else ()
        for name in parts:
            if name != last:
                dtype = torch.float32 if name == parts[-1] else torch.bfloat16
                network.set_submodule(name, InFloat32(network.get_submodule(name), dtype))
        if last is not None:
            layer = LastLayer(network.get_submodule(last))
            network.set_submodule(last, layer)
            object.__setattr__(self, "last", layer)  # no second child of this module
        return network

    @property
    def head(self) -> Head | None:
        """The last layer, where the network's class names it and it is a pointwise convolution."""
        if self.last is None:
            return None
        weight, bias = self.last.part.weight, self.last.part.bias
        assert isinstance(weight, Tensor)
        return Head(weight.detach().flatten(1), bias.detach() if isinstance(bias, Tensor) else None)

    def without_head(self) -> AbstractContextManager[None]:
        """Return a context in which features come in the place of logits."""
        return switched_on(self.last, "left_out")

    def compute(self, image: Tensor) -> Tensor:
        """Map an image (B, C, D, H, W) to what the network gives, in its number format."""
        with self._autocast(image):
            result: Tensor = self.network(image)
        return result

    def compute_with_outputs(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the network gives, and its outputs for the whole scan, float32."""
        with self._autocast(image):
            result, outputs = self.network.forward_with_outputs(image)  # type: ignore[operator]
        return result, outputs.float()

    def _autocast(self, image: Tensor) -> AbstractContextManager[Any]:
        return torch.autocast(image.device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()

    def forward_with_outputs(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of an image, and its outputs for the whole scan."""
        logits, outputs = self.compute_with_outputs(image)
        return logits.float(), outputs

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, C, D, H, W) to logits (B, classes, D, H, W), float32."""
        logits = self.compute(image)
        return logits if self.precision == "float32" else logits.float()


def outputs_of(network: nn.Module) -> int:
    """Return how many outputs for a whole scan a PyTorch or TorchScript module has beside its logits."""
    return int(getattr(network, "num_outputs", 0)) if hasattr(network, "forward_with_outputs") else 0


def read_torchscript(path: str | Path, device: torch.device | str) -> nn.Module:
    """Load a TorchScript archive in evaluation mode.

    Raises:
        ExportError: when the file is none.
    """
    try:
        script: nn.Module = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        raise ExportError(path, f"is no TorchScript archive ({last_line(error)})") from error
    return script.eval()


def last_line(error: BaseException) -> str:
    """Return what a library says of its error, without the places in its source that it puts before that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
