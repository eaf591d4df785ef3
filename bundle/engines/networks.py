"""A network in each engine, as a module that maps images to logits: any MONAI inferer runs it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from bundle.errors import ExportError
from bundle.machine import available_cores

if TYPE_CHECKING:
    import onnxruntime
    import openvino

Outputs = Tensor | tuple[Tensor, ...]


def _as_outputs(arrays: list[np.ndarray], device: torch.device) -> Outputs:
    tensors = tuple(torch.from_numpy(array).to(device) for array in arrays)
    return tensors[0] if len(tensors) == 1 else tensors


class TorchNetwork(nn.Module):
    """A PyTorch or TorchScript module, under autocast where bfloat16 is wanted; logits are float32.

    Args:
        network: maps (B, C, D, H, W) to logits.
        bfloat16: whether to compute in it.
    """

    def __init__(self, network: nn.Module, bfloat16: bool) -> None:
        super().__init__()
        self.network = network
        self.autocast = bfloat16

    def forward(self, image: Tensor) -> Outputs:
        """Map an image (B, C, D, H, W) to logits (B, classes, D, H, W), and to further outputs as the network does."""
        if not self.autocast:
            return self.network(image)
        with torch.autocast(image.device.type, torch.bfloat16):
            out = self.network(image)
        return tuple(part.float() for part in out) if isinstance(out, tuple) else out.float()


@cache
def openvino_core() -> openvino.Core:
    """Return the one core of this process: its end would unload the CPU plugin under the threads that still run it."""
    import openvino

    return openvino.Core()


class OpenVinoNetwork(nn.Module):
    """A network that OpenVINO computes on the CPU, on the cores available to the process.

    Args:
        model: file of the model, ``.xml`` or ``.onnx``.
        bfloat16: whether to compute in it.
        cache_dir: folder for compiled models.

    Raises:
        ExportError: when the file cannot be read.
    """

    def __init__(self, model: str | Path, bfloat16: bool, cache_dir: str | Path | None = None) -> None:
        super().__init__()
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": available_cores(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        if cache_dir is not None:
            options["CACHE_DIR"] = str(cache_dir)
        try:
            self.compiled: openvino.CompiledModel = openvino_core().compile_model(str(model), "CPU", options)
        except RuntimeError as error:
            raise ExportError(f"{model}: OpenVINO cannot read it ({_first_line(error)}).") from error

    def forward(self, image: Tensor) -> Outputs:
        """Map an image (B, C, D, H, W) to logits (B, classes, D, H, W) on the image's device."""
        array = image.detach().cpu().contiguous().numpy()
        try:
            found: Any = self.compiled([array])
        except RuntimeError as error:
            raise ValueError(
                f"OpenVINO refused an image of shape {tuple(image.shape)} ({_first_line(error)})."
            ) from error
        return _as_outputs([found[index] for index in range(len(self.compiled.outputs))], image.device)


class OnnxNetwork(nn.Module):
    """A network that ONNX Runtime computes on the CPU, on the cores available to the process.

    Args:
        model: ``.onnx`` file.

    Raises:
        ExportError: when the file cannot be read.
    """

    def __init__(self, model: str | Path) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        options.log_severity_level = 4
        try:
            self.session: onnxruntime.InferenceSession = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own kinds, derived from Exception alone
            raise ExportError(f"{model}: ONNX Runtime cannot read it ({_first_line(error)}).") from error
        self.input_name = self.session.get_inputs()[0].name

    def forward(self, image: Tensor) -> Outputs:
        """Map an image (B, C, D, H, W) to logits (B, classes, D, H, W) on the image's device."""
        array = image.detach().cpu().contiguous().numpy()
        try:
            found = self.session.run(None, {self.input_name: array})
        except Exception as error:
            raise ValueError(
                f"ONNX Runtime refused an image of shape {tuple(image.shape)} ({_first_line(error)})."
            ) from error
        return _as_outputs(found, image.device)


def read_torchscript(path: str | Path, device: torch.device | str) -> nn.Module:
    """Load a TorchScript archive in evaluation mode.

    Raises:
        ExportError: when the file is none.
    """
    try:
        return torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise ExportError(f"{path}: is no TorchScript archive ({_first_line(error)}).") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
