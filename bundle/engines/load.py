"""From a network definition and a checkpoint, or an exported file, to a network in an engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bundle.engines.cache import cache_folder, cached, compiled_folder, content_key
from bundle.engines.choose import READERS, Choice, choose
from bundle.engines.converted import OnnxNetwork, OpenVinoNetwork
from bundle.engines.ensemble import EnsembleNetwork
from bundle.engines.networks import EngineNetwork, TorchNetwork, outputs_of, read_torchscript
from bundle.errors import ExportError
from bundle.forms import FORMS, Form, Source
from bundle.forms.sidecar import check_sidecar
from bundle.io import load_weights
from bundle.machine import available_cores

logger = logging.getLogger(__name__)
PROBE_SIZE = (16, 27, 20)
PROBE_TOLERANCE = 1e-3
# engine: the form that it reads, the packages that make that, what reads it
CONVERSIONS: dict[str, tuple[Form, tuple[str, ...], Callable[[Path], EngineNetwork]]] = {
    "openvino": (FORMS["openvino"], ("torch", "openvino"), partial(OpenVinoNetwork, bfloat16=False)),
    "onnxruntime": (FORMS["onnx"], ("torch", "onnx", "onnxscript"), OnnxNetwork),
}


def load_network(
    network_def: nn.Module,
    checkpoint: str | Path | Sequence[str | Path],
    engine: str = "auto",
    precision: str = "float32",
    device: torch.device | str = "cpu",
    cache_dir: str | Path | None = None,
) -> EngineNetwork:
    """Return a network in evaluation mode that an engine computes.

    A state dict (``.pt``) goes into ``network_def`` strictly; OpenVINO and ONNX Runtime then convert the network once
    and keep the result in the cache. An exported file (``.ts``, ``.onnx``, ``.xml``) is used as it is and compared with
    its sidecar; ``network_def`` plays no part then.

    Args:
        network_def: the network that a state dict belongs to, or a list of them (``ModuleList``) for several.
        checkpoint: state dict, or a file that ``python -m scripts.export`` wrote; several are an ensemble.
        engine: ``"auto"``, ``"torch"``, ``"torchscript"``, ``"onnxruntime"`` or ``"openvino"``.
        precision: ``"float32"``, ``"bfloat16"`` or ``"auto"``: bfloat16 where the hardware has it.
        device: where images and logits are; OpenVINO and ONNX Runtime compute on the CPU all the same.
        cache_dir: folder of converted and compiled models; the user's cache by default.

    Raises:
        WeightsError: when the state dict cannot be used.
        ExportError: when the exported file, the engine or the precision cannot.
    """
    if not isinstance(checkpoint, (str, Path)):
        several = isinstance(network_def, nn.ModuleList)
        networks: Any = network_def if several else [deepcopy(network_def) for _ in checkpoint]
        members = [
            load_network(network, file, engine, precision, device, cache_dir)
            for network, file in zip(networks, checkpoint, strict=True)
        ]
        return EnsembleNetwork(members).eval()
    choice = choose(engine, precision, device, checkpoint)
    folder = cache_folder(cache_dir)
    network = _load(choice, network_def, Path(checkpoint), device, folder)
    logger.info(f"Engine {network.engine}, {network.precision}, {available_cores()} CPU cores available.")
    return network.eval()


def _load(
    choice: Choice, network_def: nn.Module, checkpoint: Path, device: torch.device | str, folder: Path
) -> EngineNetwork:
    exported = checkpoint.suffix in READERS
    if exported:
        check_sidecar(checkpoint)
    if choice.engine == "torchscript":
        script = read_torchscript(checkpoint, device) if exported else _script(network_def, checkpoint)
        constants = () if exported else script.state_dict().keys() - network_def.state_dict().keys()
        return TorchNetwork(script.to(device), choice.bfloat16, constants)
    if choice.engine == "torch":
        return TorchNetwork(load_weights(network_def, checkpoint).to(device), choice.bfloat16)
    if not exported:
        load_weights(network_def, checkpoint)
    model = checkpoint if exported else _convert(choice.engine, network_def, checkpoint, folder)
    openvino = choice.engine == "openvino"
    network = OpenVinoNetwork(model, choice.bfloat16, compiled_folder(folder)) if openvino else OnnxNetwork(model)
    if not exported:
        network.follow(network_def, lambda changed: _convert(choice.engine, changed, None, folder))
    return network


def _script(network_def: nn.Module, checkpoint: Path) -> nn.Module:
    script: nn.Module = torch.jit.script(load_weights(network_def, checkpoint))
    return script


def _convert(engine: str, network: nn.Module, checkpoint: Path | None, folder: Path) -> Path:
    """Return the file in the cache to which a network with its weights, those of a file or not, is converted."""
    form, packages, read = CONVERSIONS[engine]

    def make(path: Path) -> None:
        form.make(Source(network), path)
        _probe(network, read(path))

    return cached(folder, content_key(network, checkpoint, packages), form.file, make)


def _probe(network: nn.Module, converted: EngineNetwork) -> None:
    """Refuse a conversion that does not compute the network at a size other than its example's."""
    image = torch.rand(1, int(getattr(network, "in_channels", 1)), *PROBE_SIZE)
    several = bool(outputs_of(network))
    with torch.no_grad():
        pairs = [part.forward_with_outputs(image) if several else (part(image),) for part in (network, converted)]  # type: ignore[operator]
    differences = [(found - expected).abs().max().item() for expected, found in zip(*pairs, strict=True)]
    difference = max(differences, key=lambda value: (value != value, value))  # NaN is the largest
    if not difference <= PROBE_TOLERANCE * max(1.0, pairs[0][0].abs().max().item()):
        name = type(network).__name__
        raise ExportError(f"engine {converted.engine}", f"the converted {name} differs by {difference:.1e}")
