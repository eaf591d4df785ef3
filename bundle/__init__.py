"""The parts that MONAI bundle configs name by ``_target_``, floor by floor: see docs/architecture.md."""

from importlib import import_module
from types import ModuleType

MOVED = {
    "deployment": "bundle.export",
    "memory": "bundle.machine",
    "outputs": "bundle.results",
    "precision": "bundle.machine",
    "report": "bundle.results",
    "segmenter": "bundle.inference.segmenter",
}
"""Modules of version 0.8 that configs of its time name in a ``_target_``, and where their names are now."""


def __getattr__(name: str) -> ModuleType:
    """Return the module that took the place of an older one."""
    if name in MOVED:
        return import_module(MOVED[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
