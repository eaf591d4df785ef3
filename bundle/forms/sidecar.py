"""The JSON beside an exported model: what it was made of, what it takes, and how near it comes to the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bundle.errors import ExportError
from bundle.provenance import sha256

INPUT, OUTPUT, SCAN_OUTPUTS = "image", "logits", "outputs"
AXES = ("batch", "depth", "height", "width")
"""Names of what goes in and comes out of every form, outputs for the scan where there are any, and of free axes."""
MAKE = "python -m scripts.export makes it"


def sidecar_path(model: str | Path) -> Path:
    """Return ``NAME.SUFFIX.json`` beside ``NAME.SUFFIX``."""
    return Path(f"{model}.json")


def model_files(model: str | Path) -> list[Path]:
    """Return the files of an exported model; OpenVINO's ``NAME.xml`` has its weights in ``NAME.bin``."""
    model = Path(model)
    return [model, model.with_suffix(".bin")] if model.suffix == ".xml" else [model]


def write_sidecar(model: str | Path, content: dict[str, Any]) -> Path:
    """Write ``content`` with the SHA-256 of the model's files and return the path of the sidecar."""
    files = {file.name: sha256(file) for file in model_files(model)}
    path = sidecar_path(model)
    path.write_text(json.dumps({"files": files, **content}, indent=2) + "\n", encoding="utf-8")
    return path


def check_sidecar(model: str | Path) -> dict[str, Any]:
    """Compare the files of a model with its sidecar.

    Returns:
        The sidecar's content, empty when there is none: models of other programs have none.

    Raises:
        ExportError: when a file is missing or differs from what was exported, or the sidecar cannot be read.
    """
    for file in model_files(model):
        if not file.is_file():
            raise ExportError(file, "not found", MAKE, "missing")
    path = sidecar_path(model)
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stated = dict(content["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(path, f"cannot be read as a sidecar ({error})", MAKE, "unreadable") from error
    for file in model_files(model):
        found = sha256(file)
        if found != stated.get(file.name):
            wanted = str(stated.get(file.name, "none"))[:16]
            differ = f"found SHA-256 {found[:16]}..., {path.name} says {wanted}..."
            raise ExportError(file, differ, f"the file is damaged or was replaced, {MAKE} anew", "damaged")
    return content
