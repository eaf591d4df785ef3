"""OpenVINO IR straight from a PyTorch network, without its converter."""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from bundle.errors import ExportError
from bundle.forms.form import Form, Source
from bundle.forms.sidecar import INPUT, OUTPUT, SCAN_OUTPUTS
from bundle.forms.tracing import example_input
from bundle.privacy import load_openvino

if TYPE_CHECKING:
    from openvino import Model

TRACED_SIZE = (24, 32, 40)


def require_openvino() -> None:
    """Raise ``ExportError`` when OpenVINO is missing."""
    if find_spec("openvino") is None:
        raise ExportError("OpenVINO", "found no openvino", "pip install openvino -c constraints.txt")


def convert_openvino(network: nn.Module) -> Model:
    """Trace a network in evaluation mode and convert it, batch and spatial axes free.

    ``openvino.convert_model`` reports to its maker over the network; the frontend below it does not.

    Args:
        network: maps (B, C, D, H, W) to logits; see ``portable``.

    Raises:
        ExportError: when OpenVINO is not installed, or cannot convert the network.
    """
    require_openvino()
    openvino = load_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    image = example_input(network, batch=1, size=TRACED_SIZE)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's, about sizes; parity is checked at other sizes
            traced = torch.jit.trace(network, image, check_trace=False)
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, shared_memory=False)  # must outlive the conversion
        model = frontend.convert(frontend.load(decoder))
    except Exception as error:  # the tracer and the frontend raise errors of many kinds
        reason = " ".join(str(error).split())[:200]
        raise ExportError("OpenVINO", f"cannot convert {type(network).__name__} ({reason})") from error
    model.inputs[0].get_tensor().set_names({INPUT})
    for output, name in zip(model.outputs, (OUTPUT, SCAN_OUTPUTS), strict=False):
        output.get_tensor().set_names({name})
    model.reshape({INPUT: openvino.PartialShape([-1, image.shape[1], -1, -1, -1])})
    return model


def write_openvino(model: Model, path: str | Path) -> None:
    """Write ``NAME.xml`` and ``NAME.bin`` with float32 weights."""
    logging.getLogger("openvino").setLevel(logging.ERROR)
    load_openvino().save_model(model, str(path), compress_to_fp16=False)


def _make(source: Source, path: Path) -> None:
    write_openvino(convert_openvino(source.portable), path)


FORM = Form("openvino", "model.xml", _make)
