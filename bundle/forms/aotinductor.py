"""AOTInductor: a ``torch.export`` program compiled for this processor."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from bundle.errors import ExportError
from bundle.forms.form import Form, Source


def find_compiler() -> str | None:
    """Return the C++ compiler that AOTInductor would call, or ``None``."""
    return shutil.which("g++") or shutil.which("clang++")


def write_aotinductor(program: ExportedProgram, path: str | Path) -> None:
    """Compile a program for this processor and write a package for ``torch._inductor.aoti_load_package``."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))


def _make(source: Source, path: Path) -> None:
    if find_compiler() is None:
        raise ExportError("aotinductor", "found no C++ compiler", "apt-get install g++")
    write_aotinductor(source.program, path)


def _facts() -> dict[str, Any]:
    return {"processor": torch.backends.cpu.get_cpu_capability()}


FORM = Form("aotinductor", "model_aoti.pt2", _make, _facts)
