"""Files in and out: every file is checked before it is used, and appears whole or not at all."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bundle.errors import GeometryWarning, InputError
from bundle.io.discover import Listing, datalist_items, find_volumes, list_inputs
from bundle.io.inspect import Inspection, inspect_volume
from bundle.io.label_map import LabelMap, check_same_grid, read_grid, read_label_map
from bundle.io.label_table import write_labels
from bundle.io.names import output_path
from bundle.io.read import Volume, read_volume
from bundle.io.whole import whole_file, whole_set
from bundle.io.write import write_label_map

if TYPE_CHECKING:
    from bundle.io.monai_reader import NiftiReader
    from bundle.io.weights import load_weights, read_weights

__all__ = [
    "GeometryWarning",
    "InputError",
    "Inspection",
    "LabelMap",
    "Listing",
    "NiftiReader",
    "Volume",
    "check_same_grid",
    "datalist_items",
    "find_volumes",
    "inspect_volume",
    "list_inputs",
    "load_weights",
    "output_path",
    "read_grid",
    "read_label_map",
    "read_volume",
    "read_weights",
    "whole_file",
    "whole_set",
    "write_label_map",
    "write_labels",
]

HEAVY = {"NiftiReader": "monai_reader", "load_weights": "weights", "read_weights": "weights"}
"""Names whose modules load MONAI and PyTorch, which takes seconds: only those who use them pay for it."""


def __getattr__(name: str) -> Any:
    """Return a name of a module that is not loaded before it is used."""
    if name in HEAVY:
        return getattr(import_module(f"{__name__}.{HEAVY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
