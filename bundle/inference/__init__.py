"""Inference: weights, windows, and the way back to the scan's grid."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bundle.engines import ENGINES, load_network
from bundle.errors import WeightsError
from bundle.inference.batches import collate_scans
from bundle.inference.components import KeepLargestComponentsd, keep_largest_components
from bundle.inference.confidence import MeasureConfidenced, mean_margins
from bundle.inference.intensities import PlaceBackgroundd, ScaleIntensitiesd
from bundle.inference.label_values import LabelValuesd
from bundle.inference.restore import RestoreLabelMapd, restore_labels
from bundle.inference.settings import running_config
from bundle.inference.stream import StreamInferer, stream_labels
from bundle.inference.windows import WindowInferer
from bundle.io import load_weights

if TYPE_CHECKING:
    from bundle.inference.skipping import SkippingDataset, SkippingEvaluator

__all__ = [
    "ENGINES",
    "KeepLargestComponentsd",
    "LabelValuesd",
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

WORKFLOW = ("SkippingDataset", "SkippingEvaluator")
"""Names whose module loads ignite, which takes a second: only a workflow that runs pays for it."""


def __getattr__(name: str) -> Any:
    """Return a name of a module that is not loaded before it is used."""
    if name in WORKFLOW:
        return getattr(import_module(f"{__name__}.skipping"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
