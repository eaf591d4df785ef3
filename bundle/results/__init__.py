"""What the segmentation of a scan leaves behind: label map, volumes and a picture for quality control."""

from bundle.results.outputs import OutputPaths, SaveOutputsd, check_outputs, save_outputs
from bundle.results.picture import draw_qc
from bundle.results.volumes import StructureVolume, structure_volumes, write_volumes

__all__ = [
    "OutputPaths",
    "SaveOutputsd",
    "StructureVolume",
    "check_outputs",
    "draw_qc",
    "save_outputs",
    "structure_volumes",
    "write_volumes",
]
