"""Export: every form of a checkpoint made, proved against the network, and put in place."""

from bundle.export.exporter import FORMS, Exported, Exporter, read_json
from bundle.export.parity import Parity
from bundle.forms import write_torchscript

__all__ = ["FORMS", "Exported", "Exporter", "Parity", "read_json", "write_torchscript"]
