"""Engines: PyTorch, TorchScript, ONNX Runtime and OpenVINO behind one module that maps images to logits."""

from bundle.inference.engines.choose import ENGINES, available_cores, choose
from bundle.inference.engines.load import load_network

__all__ = ["ENGINES", "available_cores", "choose", "load_network"]
