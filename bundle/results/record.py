"""The record of a result, ``NAME_record.json``: what it was made of and by, what happened, whether to look twice.

It is the commit mark of the files of a scan: written last, with the SHA-256 of the others. Times and memory stand apart
in ``run``; but for them, two runs on one machine give the same bytes (``tests/bundle/results/test_record.py``). Of the
scan it holds the file's name, its hash and where it lies in space: no folder, nothing of its header's text.
``configs/record.schema.json`` describes every field. ``null`` stands for what nobody knew: a workflow
that is run otherwise than by ``scripts.segment`` or ``monai.bundle run`` cannot know its config files.
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
from bundle.io.scale import Scale
from bundle.labels import Label
from bundle.machine import available_cores, peak_memory
from bundle.provenance import hashed_files, sha256, versions
from bundle.results.flags import Flag
from bundle.results.probabilities import ProbabilityMaps, record_of
from bundle.results.quality import Quality
from bundle.results.totals import TOTALS
from bundle.results.volumes import StructureVolume

RECORD_VERSION = 1
PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "openvino", "onnxruntime")
"""Whose versions a label map may depend on."""
STAGES = ("read", "network", "restore", "write")
STAGES_KEY = "stages"
"""Where a scan's dictionary holds its ``Stages``."""


def dropped_key(key: Hashable) -> str:
    """Return where a scan's dictionary holds the voxels that the structures of a label map lost, by code."""
    return f"{key}_dropped"


def apart_key(key: Hashable) -> str:
    """Return where a scan's dictionary holds the voxels in large pieces apart from the main one, by code."""
    return f"{key}_apart"


def confidence_key(key: Hashable) -> str:
    """Return where a scan's dictionary holds how sure the network was of each structure of a label map, by code."""
    return f"{key}_confidence"


class Stages:
    """Seconds that each stage of a scan took, and the most memory that the process had held at its end."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.content: dict[str, dict[str, float | int | None]] = {
            name: {"seconds": None, "peak_memory_bytes": None} for name in STAGES
        }

    def begin(self) -> None:
        """Start the clock anew: what was waited for since the last stage is none's."""
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds of all stages so far."""
        return float(sum(stage["seconds"] or 0.0 for stage in self.content.values()))

    def end(self, name: str) -> None:
        """Note that a stage is over, and that the next one starts."""
        now = time.perf_counter()
        self.content[name] = {"seconds": round(now - self._started, 3), "peak_memory_bytes": peak_memory()}
        self._started = now


@dataclass(frozen=True, eq=False)
class Maker:
    """What makes label maps; ``None`` where that is not known.

    Attributes:
        weights: the checkpoint, or an exported model; of an ensemble, a list.
        network: the network, whose engine and precision are asked.
        device: where it computes.
        mirror_averaging: whether the mirror image was averaged in.
        seed: of what is drawn at random; nothing is in this bundle's inference.
        config: the config, see ``bundle.inference.settings``.
        settings: values of ids that a label map depends on, as they were used; for where the config is not known.
        tables: files that the config names.
        model: the model's folder, see ``bundle.model``.
    """

    weights: str | Path | Sequence[str | Path] | None = None
    network: torch.nn.Module | None = None
    device: torch.device | str | None = None
    mirror_averaging: bool | None = None
    seed: int | None = None
    config: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] | None = None
    tables: Sequence[str | Path | None] = ()
    model: Mapping[str, Any] | None = None

    @cached_property
    def config_content(self) -> Mapping[str, Any] | None:
        """The config; of one whose files are not known the tables and settings alone."""
        if self.config is not None or self.settings is None:
            return self.config
        tables = hashed_files(table for table in self.tables if table is not None)
        return {"files": tables, "overrides": None, "settings": dict(self.settings), "sha256": None}

    @cached_property
    def weights_content(self) -> dict[str, str] | None:
        """SHA-256 of the files of the weights by their names; of an ensemble, its members' numbers before them."""
        if self.weights is None:
            return None
        if isinstance(self.weights, (str, Path)):
            return {file.name: sha256(file) for file in model_files(self.weights) if file.is_file()}
        files = [(number, file) for number, path in enumerate(self.weights, 1) for file in model_files(path)]
        return {f"{number}/{file.name}": sha256(file) for number, file in files if file.is_file()}

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
        scale: what became black and white in the image that the network saw.
        apart: voxels of each structure in large pieces apart from its main one, kept or lost, by code.
        confidence: how sure the network was of each structure, by code.
        maps: probability maps.
        quality: what the network predicts of the result.
    """

    maker: Maker = field(default_factory=Maker)
    dropped: Mapping[int, int] | None = None
    network_affine: Any = None
    stages: Stages = field(default_factory=Stages)
    scale: Scale | None = None
    apart: Mapping[int, int] | None = None
    confidence: Mapping[int, float] | None = None
    maps: ProbabilityMaps | None = None
    quality: Quality | None = None

    def dropped_mm3(self) -> dict[int, float]:
        """Return the volume that each structure lost, by code."""
        return self._mm3(self.dropped)

    def apart_mm3(self) -> dict[int, float]:
        """Return the volume of each structure in large pieces apart from its main one, by code."""
        return self._mm3(self.apart)

    def _mm3(self, counts: Mapping[int, int] | None) -> dict[int, float]:
        if not counts or self.network_affine is None:
            return {}
        voxel_mm3 = voxel_volume(self.network_affine)
        return {code: voxels * voxel_mm3 for code, voxels in counts.items()}


def scan_record(
    volume: Volume,
    reading: Reading,
    warnings: Sequence[str],
    outputs: Sequence[Path],
    totals: Mapping[str, float | None],
    rows: Sequence[StructureVolume],
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
        outputs: the files of the result, as they were written; the sidecar, which is made of the record, comes later.
        totals: mm³ by name, see ``bundle.results.totals``.
        rows: the structures, see ``bundle.results.volumes``.
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
        "config": notes.maker.config_content,
        "versions": versions(PACKAGES),
        "computation": notes.maker.computation,
        "steps": {
            "intensities": asdict(notes.scale) if notes.scale else None,
            "mirror_averaging": notes.maker.mirror_averaging,
            "largest_component": _pieces(notes, table),
            "probabilities": record_of(notes.maps, table),
        },
        "volumes": {
            name: {"volume_mm3": _rounded(totals[name]), "definition": total.definition}
            for name, total in TOTALS.items()
        },
        "structures": {row.name: _structure(row) for row in rows},
        "quality": notes.quality.record() if notes.quality else None,
        "run": {"stages": notes.stages.content, "peak_memory_bytes": peak_memory()},
    }


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a record as indented JSON in ASCII, whatever bytes a name has, in the order of its fields."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _input(volume: Volume, reading: Reading, warnings: Sequence[str]) -> dict[str, Any]:
    difference = volume.grid.form_difference
    return {
        "name": volume.path.name,
        "sha256": sha256(volume.path) if volume.in_file else None,
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


def _pieces(notes: Notes, table: Sequence[Label]) -> dict[str, Any] | None:
    """Return how many voxels changed hands since they lay apart, and how many of large pieces did or did not."""
    if notes.dropped is None:
        return None
    names = {label.code: label.name for label in table}

    def by_structure(counts: Mapping[int, int], volumes: Mapping[int, float]) -> dict[str, Any]:
        return {
            names[code]: {"voxels": voxels, "volume_mm3": _rounded(volumes.get(code))}
            for code, voxels in counts.items()
        }

    return {
        "voxels_moved": sum(notes.dropped.values()),
        "structures": by_structure(notes.dropped, notes.dropped_mm3()),
        "apart": by_structure(notes.apart or {}, notes.apart_mm3()),
    }


def _structure(row: StructureVolume) -> dict[str, Any]:
    """Return what the table says of a structure, in numbers."""
    return {
        "code": row.code,
        "volume_mm3": _rounded(row.volume_mm3),
        "fraction": _rounded(row.fraction, 6),
        "expected_mm3": _rounded(row.expected_mm3),
        "z": _rounded(row.z, 2),
        "confidence": _rounded(row.confidence, 4),
    }


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
