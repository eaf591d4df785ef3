"""A network in each engine, as a module that maps images to logits: any MONAI inferer runs it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bundle.engines.channels_last import PointwiseConv, to_channels_last
from bundle.engines.state import convert_again_after_loading, hide_in_state_dict
from bundle.errors import ExportError
from bundle.machine import available_cores
from bundle.privacy import load_openvino

if TYPE_CHECKING:
    import onnxruntime
    import openvino


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


class TorchNetwork(EngineNetwork):
    """A PyTorch or TorchScript module, under autocast where bfloat16 is wanted.

    A PyTorch module is changed in place: on a CPU it computes with channels last, and in bfloat16 the parts that its
    class names in ``FLOAT32_PARTS`` stay in float32, the last of which gives the logits.

    Args:
        network: maps (B, C, D, H, W) to logits; lies on the device already.
        bfloat16: whether to compute in it.
        constants: buffers that a scripted network has and the one that it was made of does not save.
    """

    def __init__(self, network: nn.Module, bfloat16: bool, constants: Collection[str] = ()) -> None:
        scripted = isinstance(network, torch.jit.ScriptModule)
        super().__init__("torchscript" if scripted else "torch", bfloat16)
        if not scripted:
            device = next(network.parameters(), torch.empty(0)).device
            network = to_channels_last(network) if device.type == "cpu" else network
            parts: tuple[str, ...] = getattr(network, "FLOAT32_PARTS", ()) if bfloat16 else ()
            for name in parts:
                dtype = torch.float32 if name == parts[-1] else torch.bfloat16
                setattr(network, name, InFloat32(getattr(network, name), dtype))
        self.network = network
        self.num_outputs = outputs_of(network)
        hide_in_state_dict(self, "network", constants)

    def forward_with_outputs(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of an image, and its outputs for the whole scan."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits, outputs = self.network.forward_with_outputs(image)  # type: ignore[operator]
        return logits.float(), outputs.float()

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, C, D, H, W) to logits (B, classes, D, H, W), float32."""
        logits: Tensor
        if self.precision == "float32":
            logits = self.network(image)
            return logits
        with torch.autocast(image.device.type, torch.bfloat16):
            logits = self.network(image)
        return logits.float()


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

    Args:
        model: file of the model, ``.xml`` or ``.onnx``.
        bfloat16: whether to compute in it.
        cache_dir: folder for compiled models.

    Raises:
        ExportError: when the file cannot be read.
    """

    def __init__(self, model: str | Path, bfloat16: bool, cache_dir: str | Path | None = None) -> None:
        super().__init__("openvino", bfloat16)
        self.options: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": available_cores(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        if cache_dir is not None:
            self.options["CACHE_DIR"] = str(cache_dir)
        self.open(model)

    def open(self, model: str | Path) -> None:
        """Compile a file and compute it from now on.

        Raises:
            ExportError: when it cannot be read.
        """
        try:
            self.compiled: openvino.CompiledModel = openvino_core().compile_model(str(model), "CPU", self.options)
        except RuntimeError as error:
            raise ExportError(model, f"OpenVINO cannot read it ({_last_line(error)})") from error
        shapes = [output.partial_shape for output in self.compiled.outputs]
        self.num_outputs = shapes[1][1].get_length() if len(shapes) > 1 else 0

    def compute(self, image: Tensor) -> list[Tensor]:
        """Return all that the model makes of an image (B, C, D, H, W), on the image's device.

        Raises:
            ValueError: when the model takes no image of this shape.
            MemoryError: when it gives nothing back, which it does where an allocation failed.
        """
        array = image.detach().cpu().contiguous().numpy()
        try:
            found: Any = self.compiled([array])
        except RuntimeError as error:
            raise ValueError(
                f"OpenVINO refused an image of shape {tuple(image.shape)} ({_last_line(error)})"
            ) from error
        if not found[0].size:
            raise MemoryError("OpenVINO gave an empty answer")
        return [torch.from_numpy(found[index]).to(image.device) for index in range(len(self.compiled.outputs))]


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
            raise ExportError(model, f"ONNX Runtime cannot read it ({_last_line(error)})") from error
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
            reason = _last_line(error)
            raise ValueError(f"ONNX Runtime refused an image of shape {tuple(image.shape)} ({reason})") from error
        return [torch.from_numpy(part).to(image.device) for part in found]


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
        raise ExportError(path, f"is no TorchScript archive ({_last_line(error)})") from error
    return script.eval()


def _last_line(error: BaseException) -> str:
    """Return what a library says of its error, without the places in its source that it puts before that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
