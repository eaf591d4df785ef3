"""Inference: weights, windows, and the way back to the scan's grid."""

from bundle.engines import ENGINES, load_network
from bundle.errors import WeightsError
from bundle.inference.components import KeepLargestComponentsd, keep_largest_components
from bundle.inference.confidence import MeasureConfidenced, mean_margins
from bundle.inference.intensities import PlaceBackgroundd, ScaleIntensitiesd
from bundle.inference.restore import RestoreLabelMapd, restore_labels
from bundle.inference.settings import running_config
from bundle.inference.skipping import SkippingDataset, SkippingEvaluator, collate_scans
from bundle.inference.stream import StreamInferer, stream_labels
from bundle.inference.windows import WindowInferer
from bundle.io import load_weights

__all__ = [
    "ENGINES",
    "KeepLargestComponentsd",
    "MeasureConfidenced",
    "PlaceBackgroundd",
    "RestoreLabelMapd",
    "ScaleIntensitiesd",
    "SkippingDataset",
    "SkippingEvaluator",
    "StreamInferer",
    "WeightsError",
    "WindowInferer",
    "collate_scans",
    "keep_largest_components",
    "load_network",
    "load_weights",
    "mean_margins",
    "restore_labels",
    "running_config",
    "stream_labels",
]
