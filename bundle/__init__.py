"""The parts that MONAI bundle configs name by ``_target_``, floor by floor: see docs/architecture.md.

``from bundle import segment`` is the way in for Python; ``help(segment)`` says what it takes and returns.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bundle.inference.api import segment
    from bundle.results import Segmentation

__all__ = ["Segmentation", "segment"]

API = {"Segmentation": "bundle.results", "segment": "bundle.inference.api"}
"""Names whose modules load MONAI and PyTorch: only those who use them pay for it."""
MOVED = {
    "deployment": "bundle.export",
    "memory": "bundle.machine",
    "outputs": "bundle.results",
    "precision": "bundle.machine",
    "report": "bundle.results",
    "segmenter": "bundle.inference.segmenter",
}
"""Modules of version 0.8 that configs of its time name in a ``_target_``, and where their names are now."""


def __getattr__(name: str) -> Any:
    """Return a name that is not loaded before it is used, or the module that took the place of an older one."""
    if name in API:
        return getattr(import_module(API[name]), name)
    if name in MOVED:
        return import_module(MOVED[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
