"""What a segmentation run tells its user: volumes and a picture for quality control."""

from bundle.report.picture import draw_qc
from bundle.report.volumes import StructureVolume, structure_volumes, write_volumes

__all__ = ["StructureVolume", "draw_qc", "structure_volumes", "write_volumes"]
