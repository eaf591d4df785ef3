"""ONNX from a ``torch.export`` program."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from bundle.errors import ExportError
from bundle.forms.form import Form, Source
from bundle.forms.sidecar import AXES, INPUT, OUTPUT, SCAN_OUTPUTS

if TYPE_CHECKING:
    import onnx

OPSET = 20


def require_onnx() -> None:
    """Raise ``ExportError`` when the packages that write ONNX are missing."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        found = f"found no {' and no '.join(missing)}"
        raise ExportError("ONNX", found, f"pip install {' '.join(missing)} -c constraints.txt")


def write_onnx(program: ExportedProgram, path: str | Path) -> None:
    """Write an ONNX file with named free axes and run ONNX's checker on it.

    Args:
        program: exported by ``export_program``; all its input's axes but the channels are free.
        path: the file, weights inside.

    Raises:
        ExportError: when onnx or onnxscript are not installed.
    """
    require_onnx()
    import onnx

    names = [OUTPUT, SCAN_OUTPUTS][: len(program.graph_signature.user_outputs)]
    logging.getLogger("torch.onnx._internal.exporter").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            program, (), input_names=[INPUT], output_names=names, opset_version=OPSET, dynamo=True, verbose=False
        )
        assert made is not None
        made.save(str(path))
    model = onnx.load(str(path))
    name_axes(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def name_axes(model: onnx.ModelProto) -> None:
    """Give the free axes of input and output names that people know, in place."""
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == len(AXES) + 1:
            for dim, name in zip((dims[0], *dims[2:]), AXES, strict=True):
                dim.dim_param = name
        elif dims:
            dims[0].dim_param = AXES[0]


def _make(source: Source, path: Path) -> None:
    require_onnx()
    write_onnx(source.program, path)


def _facts() -> dict[str, Any]:
    return {"opset": OPSET}


FORM = Form("onnx", "model.onnx", _make, _facts)
