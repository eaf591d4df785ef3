"""What the segmentation of a scan leaves behind: label map, volumes, a picture for quality control, and a record."""

from bundle.results.failures import Failures
from bundle.results.flags import Flag, find_flags, read_limits
from bundle.results.outputs import OutputPaths, SaveImageOutputsd, SaveOutputsd, name_maker, save_outputs
from bundle.results.picture import draw_qc
from bundle.results.plan import Plan, check_outputs, plan_outputs
from bundle.results.record import Maker
from bundle.results.run_record import RunRecord
from bundle.results.segmentation import Segmentation
from bundle.results.volumes import StructureVolume, structure_volumes, write_volumes

__all__ = [
    "Failures",
    "Flag",
    "Maker",
    "OutputPaths",
    "Plan",
    "RunRecord",
    "SaveImageOutputsd",
    "SaveOutputsd",
    "Segmentation",
    "StructureVolume",
    "check_outputs",
    "draw_qc",
    "find_flags",
    "name_maker",
    "plan_outputs",
    "read_limits",
    "save_outputs",
    "structure_volumes",
    "write_volumes",
]
