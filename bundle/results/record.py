"""The record of a result, ``NAME_record.json``: what it was made of and by, what happened, whether to look twice.

It is the commit mark of the files of a scan: written last, with the SHA-256 of the others. Times and memory stand apart
in ``run``; but for them, two runs on one machine give the same bytes (``tests/bundle/results/test_record.py``). Of the
scan it holds the file's name, its hash and where it lies in space: no folder, nothing of its header's text.
``configs/record.schema.json`` describes every field. ``null`` stands for what nobody knew: a run through
``monai.bundle run`` cannot know its config files and the seconds of what was before the writing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from nibabel.affines import voxel_sizes
from nibabel.orientations import aff2axcodes

from bundle.forms.sidecar import model_files
from bundle.io.geometry import voxel_volume
from bundle.io.read import Volume
from bundle.io.reading import Reading
from bundle.labels import Label
from bundle.machine import available_cores, peak_memory
from bundle.provenance import sha256, versions
from bundle.results.flags import Flag
from bundle.results.totals import TOTALS

RECORD_VERSION = 1
PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "openvino", "onnxruntime")
"""Whose versions a label map may depend on."""
STAGES = ("read", "network", "restore", "write")
STAGES_KEY = "stages"
"""Where a scan's dictionary holds its ``Stages``."""


def dropped_key(key: Hashable) -> str:
    """Return where a scan's dictionary holds the voxels that the structures of a label map lost, by code."""
    return f"{key}_dropped"


class Stages:
    """Seconds that each stage of a scan took, and the most memory that the process had held at its end."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.content: dict[str, dict[str, float | int | None]] = {
            name: {"seconds": None, "peak_memory_bytes": None} for name in STAGES
        }

    def end(self, name: str) -> None:
        """Note that a stage is over, and that the next one starts."""
        now = time.perf_counter()
        self.content[name] = {"seconds": round(now - self._started, 3), "peak_memory_bytes": peak_memory()}
        self._started = now


@dataclass(frozen=True, eq=False)
class Maker:
    """What makes label maps; ``None`` where that is not known.

    Attributes:
        weights: the checkpoint, or an exported model.
        network: the network, whose engine and precision are asked.
        device: where it computes.
        mirror_averaging: whether the mirror image was averaged in.
        seed: of what is drawn at random; nothing is in this bundle's inference.
        config: the config, see ``bundle.inference.settings``.
        model: the model's folder, see ``bundle.model``.
    """

    weights: str | Path | None = None
    network: torch.nn.Module | None = None
    device: torch.device | str | None = None
    mirror_averaging: bool | None = None
    seed: int | None = None
    config: Mapping[str, Any] | None = None
    model: Mapping[str, Any] | None = None

    @cached_property
    def weights_content(self) -> dict[str, str] | None:
        """SHA-256 of the files of the weights by their names."""
        if self.weights is None:
            return None
        return {file.name: sha256(file) for file in model_files(self.weights) if file.is_file()}

    @cached_property
    def computation(self) -> dict[str, Any]:
        """Device, engine, precision, threads and seed."""
        device = None if self.device is None else str(self.device)
        if self.network is None:
            return {"device": device, "engine": None, "precision": None, "threads": None, "seed": self.seed}
        scripted = isinstance(self.network, torch.jit.ScriptModule)
        engine = getattr(self.network, "engine", "torchscript" if scripted else "torch")
        first = next(self.network.parameters(), torch.empty(0))
        return {
            "device": device,
            "engine": engine,
            "precision": getattr(self.network, "precision", str(first.dtype).removeprefix("torch.")),
            "threads": torch.get_num_threads() if engine in ("torch", "torchscript") else available_cores(),
            "seed": self.seed,
        }


@dataclass(frozen=True, eq=False)
class Notes:
    """What is known of a result beside the scan and its label map.

    Attributes:
        maker: what made it.
        dropped: voxels of the network's grid that each structure lost since they lay apart from it, by code.
        network_affine: voxel to world of the network's grid, shape (4, 4).
        stages: seconds and memory so far.
    """

    maker: Maker = field(default_factory=Maker)
    dropped: Mapping[int, int] | None = None
    network_affine: Any = None
    stages: Stages = field(default_factory=Stages)

    def dropped_mm3(self) -> dict[int, float]:
        """Return the volume that each structure lost, by code."""
        if not self.dropped or self.network_affine is None:
            return {}
        voxel_mm3 = voxel_volume(self.network_affine)
        return {code: voxels * voxel_mm3 for code, voxels in self.dropped.items()}


def scan_record(
    volume: Volume,
    reading: Reading,
    warnings: Sequence[str],
    outputs: Sequence[Path],
    totals: Mapping[str, float | None],
    flags: Sequence[Flag],
    looked_for: Sequence[str],
    notes: Notes,
    table: Sequence[Label],
) -> dict[str, Any]:
    """Return the record of a result.

    Args:
        volume: the scan.
        reading: how it was read.
        warnings: given while it was read.
        outputs: the other files of the result, as they were written.
        totals: mm³ by name, see ``bundle.results.totals``.
        flags: reasons to look twice.
        looked_for: codes of the flags that were looked for.
        notes: what else is known.
        table: the structures.
    """
    notes.stages.end("write")
    return {
        "record_version": RECORD_VERSION,
        "flags": [asdict(flag) for flag in flags],
        "flags_looked_for": list(looked_for),
        "input": _input(volume, reading, warnings),
        "outputs": {path.name: sha256(path) for path in outputs},
        "weights": notes.maker.weights_content,
        "model": notes.maker.model,
        "config": notes.maker.config,
        "versions": versions(PACKAGES),
        "computation": notes.maker.computation,
        "steps": {
            "mirror_averaging": notes.maker.mirror_averaging,
            "largest_component": _dropped(notes, table),
        },
        "volumes": {
            name: {"volume_mm3": _rounded(totals[name]), "definition": total.definition}
            for name, total in TOTALS.items()
        },
        "run": {"stages": notes.stages.content, "peak_memory_bytes": peak_memory()},
    }


def write_record(record: Mapping[str, Any], path: Path) -> None:
    """Write a record as indented JSON in ASCII, whatever bytes a name has, in the order of its fields."""
    path.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _input(volume: Volume, reading: Reading, warnings: Sequence[str]) -> dict[str, Any]:
    difference = volume.grid.form_difference
    return {
        "name": volume.path.name,
        "sha256": sha256(volume.path),
        "shape": list(volume.data.shape),
        "spacing_mm": [round(float(length), 6) for length in voxel_sizes(volume.affine)],
        "orientation": "".join(aff2axcodes(volume.affine)),
        "affine": volume.affine.tolist(),
        "affine_source": volume.grid.source,
        "trusted": reading.trust,
        "form_difference": {"degrees": difference.degrees, "mm": difference.mm} if difference else None,
        "frame": reading.frame,
        "voxels_filled": volume.filled,
        "warnings": list(warnings),
    }


def _dropped(notes: Notes, table: Sequence[Label]) -> dict[str, Any] | None:
    """Return how many voxels changed hands since they lay apart, in all and by structure."""
    if notes.dropped is None:
        return None
    names = {label.code: label.name for label in table}
    volumes = notes.dropped_mm3()
    return {
        "voxels_moved": sum(notes.dropped.values()),
        "structures": {
            names[code]: {"voxels": voxels, "volume_mm3": _rounded(volumes.get(code))}
            for code, voxels in notes.dropped.items()
        },
    }


def _rounded(volume: float | None) -> float | None:
    return None if volume is None else round(volume, 3)
