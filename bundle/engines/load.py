"""From a network definition and a checkpoint, or an exported file, to a network in an engine."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from bundle.engines.cache import cache_folder, cached, compiled_folder, content_key
from bundle.engines.choose import READERS, Choice, choose
from bundle.engines.networks import OnnxNetwork, OpenVinoNetwork, TorchNetwork, read_torchscript
from bundle.errors import EngineWarning, ExportError
from bundle.forms.sidecar import check_sidecar
from bundle.io import load_weights
from bundle.machine import available_cores

logger = logging.getLogger(__name__)
PROBE_SIZE = (16, 27, 20)
PROBE_TOLERANCE = 1e-3


def load_network(
    network_def: nn.Module,
    checkpoint: str | Path,
    engine: str = "auto",
    precision: str = "auto",
    device: torch.device | str = "cpu",
    cache_dir: str | Path | None = None,
) -> nn.Module:
    """Return a network in evaluation mode that an engine computes.

    A state dict (``.pt``) goes into ``network_def`` strictly; OpenVINO and ONNX Runtime then convert the network once
    and keep the result in the cache. An exported file (``.ts``, ``.onnx``, ``.xml``) is used as it is and compared with
    its sidecar; ``network_def`` plays no part then.

    Args:
        network_def: the network that a state dict belongs to.
        checkpoint: state dict, or a file that ``python -m scripts.export`` wrote.
        engine: ``"auto"``, ``"torch"``, ``"torchscript"``, ``"onnxruntime"`` or ``"openvino"``.
        precision: ``"float32"``, ``"bfloat16"`` or ``"auto"``: bfloat16 where the hardware has it.
        device: where images and logits are; OpenVINO and ONNX Runtime compute on the CPU all the same.
        cache_dir: folder of converted and compiled models; the user's cache by default.

    Raises:
        WeightsError: when the state dict cannot be used.
        ExportError: when the exported file, the engine or the precision cannot.
    """
    choice = choose(engine, precision, device, checkpoint)
    folder = cache_folder(cache_dir)
    try:
        network = _load(choice, network_def, Path(checkpoint), device, folder)
    except ExportError as error:
        if engine != "auto" or Path(checkpoint).suffix in READERS:
            raise
        warnings.warn(f"{error}; PyTorch computes the network", EngineWarning, stacklevel=2)
        choice = Choice("torch", False)
        network = _load(choice, network_def, Path(checkpoint), device, folder)
    logger.info(f"Engine {choice.engine}, {choice.precision}, {available_cores()} CPU cores available.")
    network.engine, network.precision = choice.engine, choice.precision  # type: ignore[assignment]
    return network.eval()


def _load(
    choice: Choice, network_def: nn.Module, checkpoint: Path, device: torch.device | str, folder: Path
) -> nn.Module:
    exported = checkpoint.suffix in READERS
    if exported:
        check_sidecar(checkpoint)
    if choice.engine == "torchscript":
        script = (
            read_torchscript(checkpoint, device)
            if exported
            else torch.jit.script(load_weights(network_def, checkpoint))
        )
        return TorchNetwork(script.to(device), choice.bfloat16)
    if choice.engine == "torch":
        return TorchNetwork(load_weights(network_def, checkpoint).to(device), choice.bfloat16)
    convert, name, packages = {
        "openvino": (_make_openvino, "model.xml", ("torch", "openvino")),
        "onnxruntime": (_make_onnx, "model.onnx", ("torch", "onnx", "onnxscript")),
    }[choice.engine]
    if exported:
        model = checkpoint
    else:
        network = load_weights(network_def, checkpoint)
        key = content_key(network, checkpoint, packages)
        model = cached(folder, key, name, lambda path: convert(network, path))
    if choice.engine == "openvino":
        return OpenVinoNetwork(model, choice.bfloat16, compiled_folder(folder))
    return OnnxNetwork(model)


def _make_openvino(network: nn.Module, path: Path) -> None:
    from bundle.forms.openvino import convert_openvino, write_openvino
    from bundle.forms.portable import portable

    write_openvino(convert_openvino(portable(network)), path)
    _probe(network, OpenVinoNetwork(path, bfloat16=False), "openvino")


def _make_onnx(network: nn.Module, path: Path) -> None:
    from bundle.forms.onnx import require_onnx, write_onnx
    from bundle.forms.portable import portable
    from bundle.forms.program import export_program

    require_onnx()
    write_onnx(export_program(portable(network)), path)
    _probe(network, OnnxNetwork(path), "onnxruntime")


def _probe(network: nn.Module, converted: nn.Module, engine: str) -> None:
    """Refuse a conversion that does not compute the network at a size other than its example's."""
    image = torch.rand(1, int(getattr(network, "in_channels", 1)), *PROBE_SIZE)
    with torch.no_grad():
        expected, found = (out[0] if isinstance(out, tuple) else out for out in (network(image), converted(image)))
    difference = (found - expected).abs().max().item()
    if not difference <= PROBE_TOLERANCE * max(1.0, expected.abs().max().item()):
        raise ExportError(f"engine {engine}: the converted {type(network).__name__} differs by {difference:.1e}")
