"""A ``torch.export`` program in a file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export import ExportedProgram

from bundle.forms.form import Form, Source


def write_program(program: ExportedProgram, path: str | Path) -> None:
    """Write a ``.pt2`` file for ``torch.export.load``."""
    torch.export.save(program, path)


def _make(source: Source, path: Path) -> None:
    write_program(source.program, path)


FORM = Form("program", "model.pt2", _make)
