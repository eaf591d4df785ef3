"""Engines: PyTorch, TorchScript, ONNX Runtime and OpenVINO behind one module that maps images to logits."""

from bundle.choices import ENGINES
from bundle.engines.choose import choose
from bundle.engines.load import load_network
from bundle.engines.networks import EngineNetwork

__all__ = ["ENGINES", "EngineNetwork", "choose", "load_network"]
