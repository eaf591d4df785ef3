"""``torch.export`` programs and the AOTInductor package compiled from one."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

# Sizes that are no multiple of 8, so that padding is in the program, and differ, so that no two axes are tied.
EXAMPLE_SIZE = (40, 49, 58)
FREE_AXES = (0, 2, 3, 4)


def example_input(network: nn.Module, batch: int = 2, size: tuple[int, int, int] = EXAMPLE_SIZE) -> torch.Tensor:
    """Return a random image (B, in_channels, D, H, W) for ``network``; one channel where it does not say."""
    return torch.rand(batch, int(getattr(network, "in_channels", 1)), *size)


def export_program(network: nn.Module) -> ExportedProgram:
    """Export a network in evaluation mode, batch and spatial axes free.

    Args:
        network: maps (B, C, D, H, W) to logits; see ``portable``.
    """
    axes = dict.fromkeys(FREE_AXES, Dim.AUTO)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (example_input(network),), dynamic_shapes=(axes,))


def write_program(program: ExportedProgram, path: str | Path) -> None:
    """Write a ``.pt2`` file for ``torch.export.load``."""
    torch.export.save(program, path)


def find_compiler() -> str | None:
    """Return the C++ compiler that AOTInductor would call, or ``None``."""
    return shutil.which("g++") or shutil.which("clang++")


def write_aotinductor(program: ExportedProgram, path: str | Path) -> None:
    """Compile a program for this processor and write a package for ``torch._inductor.aoti_load_package``."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
