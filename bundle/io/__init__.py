"""Scans in, label maps out: every file is checked before it is used and after it is written."""

from bundle.errors import GeometryWarning, InputError
from bundle.io.discover import datalist_items, find_volumes
from bundle.io.label_map import LabelMap, check_same_grid, read_grid, read_label_map
from bundle.io.monai_reader import NiftiReader
from bundle.io.names import output_path
from bundle.io.read import Volume, read_volume
from bundle.io.weights import load_weights, read_weights
from bundle.io.whole import whole_file
from bundle.io.write import write_label_map

__all__ = [
    "GeometryWarning",
    "InputError",
    "LabelMap",
    "NiftiReader",
    "Volume",
    "check_same_grid",
    "datalist_items",
    "find_volumes",
    "load_weights",
    "output_path",
    "read_grid",
    "read_label_map",
    "read_volume",
    "read_weights",
    "whole_file",
    "write_label_map",
]
