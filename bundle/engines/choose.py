"""Which engine and which precision run a network here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from bundle.choices import ENGINES
from bundle.errors import ExportError
from bundle.machine import use_bfloat16

PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
# Engines that take a file of this suffix, the first one by default. Others are state dicts, for every engine.
READERS = {".ts": ("torchscript",), ".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",)}


@dataclass(frozen=True)
class Choice:
    """An engine by name, and whether it computes in bfloat16."""

    engine: str
    bfloat16: bool

    @property
    def precision(self) -> str:
        """``"bfloat16"`` or ``"float32"``."""
        return "bfloat16" if self.bfloat16 else "float32"


def choose(engine: str, precision: str, device: torch.device | str, checkpoint: str | Path) -> Choice:
    """Resolve ``"auto"`` and refuse what cannot run here.

    An exported file names its engine by its suffix. With a state dict, ``"auto"`` is PyTorch.

    Args:
        engine: one of ``ENGINES``.
        precision: ``"float32"``, ``"bfloat16"`` or ``"auto"``, see ``use_bfloat16``.
        device: torch device of the images.
        checkpoint: state dict or exported model.

    Raises:
        ExportError: for an unknown engine, a missing package, or a file or a precision that the engine does not take.
        OptionError: for an unknown precision.
    """
    if engine not in ENGINES:
        raise ExportError("engine", f"found {engine!r}", f"one of {', '.join(ENGINES)} is wanted", "option")
    readers = READERS.get(Path(checkpoint).suffix)
    if engine == "auto":
        engine = next((name for name in readers if is_installed(name)), readers[0]) if readers else "torch"
    elif readers and engine not in readers:
        raise ExportError(checkpoint, f"is for the engine {' or '.join(readers)}, found engine {engine!r}")
    if not is_installed(engine):
        package = PACKAGES[engine]
        raise ExportError(f"engine {engine}", f"found no {package}", f"pip install {package} -c constraints.txt")
    return Choice(engine, _bfloat16(engine, precision, device))


def _bfloat16(engine: str, precision: str, device: torch.device | str) -> bool:
    """Tell whether an engine computes in bfloat16 here, and refuse a precision that it does not have."""
    if engine == "onnxruntime":
        if use_bfloat16(precision, "meta"):
            raise ExportError("engine onnxruntime", "found precision 'bfloat16', which it has no CPU kernels for")
        return False
    if engine == "openvino":
        wanted = use_bfloat16(precision, "cpu")
        if wanted and not torch.cpu._is_avx512_bf16_supported():
            found = "found precision 'bfloat16' on a processor without AVX-512 BF16"
            raise ExportError("engine openvino", found, "'auto' is wanted")
        return wanted
    return use_bfloat16(precision, device)


def is_installed(engine: str) -> bool:
    """Tell whether the package that an engine needs is there."""
    return engine not in PACKAGES or find_spec(PACKAGES[engine]) is not None
