"""How each form is read back, to be compared with the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bundle.engines.converted import OnnxNetwork, OpenVinoNetwork
from bundle.engines.networks import outputs_of, read_torchscript
from bundle.errors import ExportError

Run = Callable[[Tensor], Sequence[Tensor]]
"""Maps an image (B, C, D, H, W) to logits (B, classes, D, H, W), and to outputs for the scan where there are any."""


def run_network(network: nn.Module) -> Run:
    """Return what gives all that a PyTorch or TorchScript module makes of an image."""
    if outputs_of(network):
        return network.forward_with_outputs  # type: ignore[return-value]
    return lambda image: (network(image),)


def _read_torchscript(path: Path) -> Run:
    return run_network(read_torchscript(path, "cpu"))


def _read_openvino(path: Path) -> Run:
    return OpenVinoNetwork(path, bfloat16=False).compute


def _read_program(path: Path) -> Run:
    program = torch.export.load(path).module()
    return lambda image: _parts(program(image))


def _read_onnx(path: Path) -> Run:
    try:
        return OnnxNetwork(path).compute
    except ImportError as error:
        wanted = "pip install onnxruntime -c constraints.txt"
        raise ExportError("onnx", "found no onnxruntime to check it", wanted) from error


def _read_aotinductor(path: Path) -> Run:
    run = torch._inductor.aoti_load_package(str(path))
    return lambda image: _parts(run(image.contiguous()))  # the package takes any layout for contiguous


def _parts(found: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [found] if isinstance(found, Tensor) else found


READERS: dict[str, Callable[[Path], Run]] = {
    "torchscript": _read_torchscript,
    "openvino": _read_openvino,
    "program": _read_program,
    "onnx": _read_onnx,
    "aotinductor": _read_aotinductor,
}
"""For every form of ``bundle.forms.FORMS`` what computes it."""
