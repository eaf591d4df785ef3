"""What the segmentation of a scan leaves behind: label map, volumes and a picture for quality control."""

from bundle.results.failures import Failures
from bundle.results.outputs import OutputPaths, SaveOutputsd, save_outputs
from bundle.results.picture import draw_qc
from bundle.results.plan import Plan, check_outputs, plan_outputs
from bundle.results.volumes import StructureVolume, structure_volumes, write_volumes

__all__ = [
    "Failures",
    "OutputPaths",
    "Plan",
    "SaveOutputsd",
    "StructureVolume",
    "check_outputs",
    "draw_qc",
    "plan_outputs",
    "save_outputs",
    "structure_volumes",
    "write_volumes",
]
