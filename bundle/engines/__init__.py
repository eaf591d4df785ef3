"""Engines: PyTorch, TorchScript, ONNX Runtime and OpenVINO behind one module that maps images to logits."""

from bundle.engines.choose import ENGINES, choose
from bundle.engines.load import load_network

__all__ = ["ENGINES", "choose", "load_network"]
