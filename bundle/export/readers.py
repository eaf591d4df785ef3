"""How each form is read back, to be compared with the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from bundle.engines.networks import OnnxNetwork, OpenVinoNetwork, read_torchscript
from bundle.errors import ExportError

Run = Callable[[Tensor], Tensor]
"""Maps an image (B, C, D, H, W) to logits (B, classes, D, H, W)."""


def _read_torchscript(path: Path) -> Run:
    return read_torchscript(path, "cpu")


def _read_openvino(path: Path) -> Run:
    return OpenVinoNetwork(path, bfloat16=False)


def _read_program(path: Path) -> Run:
    return torch.export.load(path).module()


def _read_onnx(path: Path) -> Run:
    try:
        return OnnxNetwork(path)
    except ImportError as error:
        wanted = "pip install onnxruntime -c constraints.txt"
        raise ExportError("onnx", "found no onnxruntime to check it", wanted) from error


def _read_aotinductor(path: Path) -> Run:
    run = torch._inductor.aoti_load_package(str(path))

    def logits(image: Tensor) -> Tensor:
        found: Tensor | list[Tensor] = run(image.contiguous())  # the package takes any layout for contiguous
        return found if isinstance(found, Tensor) else found[0]

    return logits


READERS: dict[str, Callable[[Path], Run]] = {
    "torchscript": _read_torchscript,
    "openvino": _read_openvino,
    "program": _read_program,
    "onnx": _read_onnx,
    "aotinductor": _read_aotinductor,
}
"""For every form of ``bundle.forms.FORMS`` what gives its logits."""
