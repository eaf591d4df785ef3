"""Scans in, label maps out: every file is checked before it is used and after it is written."""

from bundle.io.discover import datalist_items, find_volumes
from bundle.io.errors import GeometryWarning, InputError
from bundle.io.monai_reader import NiftiReader
from bundle.io.names import output_path
from bundle.io.read import Volume, read_volume
from bundle.io.write import write_label_map

__all__ = [
    "GeometryWarning",
    "InputError",
    "NiftiReader",
    "Volume",
    "datalist_items",
    "find_volumes",
    "output_path",
    "read_volume",
    "write_label_map",
]
