"""Networks that were converted for another runtime: OpenVINO and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bundle.engines.cache import keep_newest
from bundle.engines.networks import EngineNetwork, last_line
from bundle.engines.state import convert_again_after_loading, hide_in_state_dict
from bundle.errors import ExportError
from bundle.machine import available_cores
from bundle.privacy import load_openvino

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    import openvino
    from numpy.typing import NDArray

KEPT_COMPILED = 16
"""Models compiled by OpenVINO that the cache keeps, one for each shape of an image; each holds the weights."""


class ConvertedNetwork(EngineNetwork):
    """A network that was converted for an engine, with the module that it was made of: the base of those.

    A state dict goes into that module; if it changed the weights, the network is converted again.

    Args:
        engine: what computes it.
        bfloat16: whether it computes in bfloat16.
    """

    def open(self, model: str | Path) -> None:
        """Compute a converted file from now on."""
        raise NotImplementedError

    def compute(self, image: Tensor) -> list[Tensor]:
        """Return all that the model makes of an image: the logits first, then outputs for the scan, if it has any."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, C, D, H, W) to logits (B, classes, D, H, W) on the image's device, see ``compute``."""
        return self.compute(image)[0]

    def forward_with_outputs(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of an image, and its outputs for the whole scan, see ``compute``."""
        logits, outputs = self.compute(image)
        return logits, outputs

    def follow(self, source: nn.Module, convert: Callable[[nn.Module], Path]) -> None:
        """Keep the module that this was made of.

        Args:
            source: the module, with its weights.
            convert: makes the file of it that the engine reads.
        """
        self.network = source
        hide_in_state_dict(self, "network")
        convert_again_after_loading(self, lambda: self.open(convert(source)))


@cache
def openvino_core() -> openvino.Core:
    """Return the one core of this process: its end would unload the CPU plugin under the threads that still run it."""
    core: openvino.Core = load_openvino().Core()
    return core


class OpenVinoNetwork(ConvertedNetwork):
    """A network that OpenVINO computes on the CPU, on the cores available to the process.

    It is compiled for the shape of the image at hand: compiled for all shapes, the first head takes twice the time and
    the memory. The last shape stays compiled, and those of the last ``KEPT_COMPILED`` are kept in the cache. A model
    that resamples is compiled for all shapes all the same: what it resamples of its weights would be wrong
    (``bundle.forms.portable.SteppedPositionGrid``).

    Args:
        model: file of the model, ``.xml`` or ``.onnx``.
        bfloat16: whether to compute in it.
        cache_dir: folder for compiled models.

    Raises:
        ExportError: when the file cannot be read.
    """

    def __init__(self, model: str | Path, bfloat16: bool, cache_dir: Path | None = None) -> None:
        super().__init__("openvino", bfloat16)
        self.options: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": available_cores(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.cache_dir = cache_dir
        if cache_dir is not None:
            self.options["CACHE_DIR"] = str(cache_dir)
        self.open(model)

    def open(self, model: str | Path) -> None:
        """Read a file and compute it from now on.

        Raises:
            ExportError: when it cannot be read.
        """
        try:
            self.model: openvino.Model = openvino_core().read_model(str(model))
        except RuntimeError as error:
            raise ExportError(model, f"OpenVINO cannot read it ({last_line(error)})") from error
        self.of_any_shape = any(operation.get_type_name() == "Interpolate" for operation in self.model.get_ops())
        self.request: openvino.InferRequest | None = None
        self.shape: tuple[int, ...] = ()
        shapes = [output.partial_shape for output in self.model.outputs]
        self.num_outputs = shapes[1][1].get_length() if len(shapes) > 1 else 0

    def compute(self, image: Tensor) -> list[Tensor]:
        """Return all that the model makes of an image (B, C, D, H, W), on the image's device.

        Raises:
            ValueError: when the model takes no image of this shape.
            MemoryError: when it gives nothing back, which it does where an allocation failed.
        """
        array = image.detach().cpu().contiguous().numpy()
        try:
            if self.request is None or (self.shape != array.shape and not self.of_any_shape):
                self._compile(array.shape)
            found = self._answer(array)
        except RuntimeError as error:
            raise ValueError(f"OpenVINO refused an image of shape {tuple(image.shape)} ({last_line(error)})") from error
        if not found[0].numel():
            raise MemoryError("OpenVINO gave an empty answer")
        return [part.to(image.device) for part in found]

    def _compile(self, shape: tuple[int, ...]) -> None:
        """Compile the model for images of one shape, once the memory of the shape before is let go."""
        self.request = None
        model = self.model.clone()
        if model.input(0).partial_shape.is_dynamic and not self.of_any_shape:
            model.reshape(list(shape))
        self.request = openvino_core().compile_model(model, "CPU", self.options).create_infer_request()
        self.shape = shape
        if self.cache_dir is not None:
            keep_newest(self.cache_dir, KEPT_COMPILED)

    def _answer(self, array: NDArray[np.float32]) -> list[Tensor]:
        """Return what the request makes of an image, in memory of its own: that of the request gets the next answer."""
        assert self.request is not None
        if self.of_any_shape:
            return [torch.from_numpy(part) for part in self.request.infer([array], share_inputs=True).values()]
        found = [torch.empty(list(tensor.shape)) for tensor in self.request.output_tensors]
        for index, part in enumerate(found):
            self.request.set_output_tensor(index, load_openvino().Tensor(part.numpy(), shared_memory=True))
        self.request.infer([array], share_inputs=True, share_outputs=True)
        return found


class OnnxNetwork(ConvertedNetwork):
    """A network that ONNX Runtime computes in float32 on the CPU, on the cores available to the process.

    Args:
        model: ``.onnx`` file.

    Raises:
        ExportError: when the file cannot be read.
    """

    def __init__(self, model: str | Path) -> None:
        super().__init__("onnxruntime", bfloat16=False)
        self.open(model)

    def open(self, model: str | Path) -> None:
        """Open a file and compute it from now on.

        Raises:
            ExportError: when it cannot be read.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        options.log_severity_level = 4
        try:
            self.session: onnxruntime.InferenceSession = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own kinds, derived from Exception alone
            raise ExportError(model, f"ONNX Runtime cannot read it ({last_line(error)})") from error
        self.input_name = self.session.get_inputs()[0].name
        shapes = [output.shape for output in self.session.get_outputs()]
        self.num_outputs = int(shapes[1][1]) if len(shapes) > 1 else 0

    def compute(self, image: Tensor) -> list[Tensor]:
        """Return all that the model makes of an image (B, C, D, H, W), on the image's device.

        Raises:
            ValueError: when the model takes no image of this shape.
        """
        array = image.detach().cpu().contiguous().numpy()
        try:
            found: Any = self.session.run(None, {self.input_name: array})
        except Exception as error:
            reason = last_line(error)
            raise ValueError(f"ONNX Runtime refused an image of shape {tuple(image.shape)} ({reason})") from error
        return [torch.from_numpy(part).to(image.device) for part in found]
