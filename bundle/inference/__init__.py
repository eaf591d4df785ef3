"""Inference: weights, windows, and the way back to the scan's grid."""

from bundle.inference.restore import RestoreLabelMapd, restore_labels
from bundle.inference.weights import WeightsError, load_weights
from bundle.inference.windows import WindowInferer

__all__ = ["RestoreLabelMapd", "WeightsError", "WindowInferer", "load_weights", "restore_labels"]
