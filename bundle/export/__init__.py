"""Export: every form of a checkpoint made, proved against the network, and put in place."""

from bundle.export.exporter import Exported, Exporter, read_json
from bundle.export.parity import Parity
from bundle.export.readers import READERS
from bundle.forms import FORMS, write_torchscript

__all__ = ["FORMS", "READERS", "Exported", "Exporter", "Parity", "read_json", "write_torchscript"]
