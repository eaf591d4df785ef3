"""The row of a scan in the tables of a cohort, taken from its record and its table of volumes."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bundle.labels import split_side
from bundle.results import OutputPaths
from bundle.results.quality import lowest


@dataclass(frozen=True)
class Row:
    """What the tables say of a result.

    Attributes:
        seconds: that its making took.
        peak_memory: most bytes that the process held.
        version: of the bundle that made it.
        flags: codes of its flags.
        quality: the lowest of the groups that the record predicts.
        label_map_sha256: of the label map.
        totals: mm³ by name.
        volumes: mm³ by structure.
        asymmetries: (L - R) / mean by the name of a pair without its side.
    """

    seconds: float | None
    peak_memory: int | None
    version: str
    flags: tuple[str, ...] = ()
    quality: float | None = None
    label_map_sha256: str = ""
    totals: Mapping[str, float | None] = field(default_factory=dict)
    volumes: Mapping[str, float] = field(default_factory=dict)
    asymmetries: Mapping[str, float | None] = field(default_factory=dict)


def row_of(record: Mapping[str, Any] | None, paths: OutputPaths) -> Row:
    """Return the row of a result.

    Args:
        record: its record; read where it is not given.
        paths: its files.

    Raises:
        OSError: when a file is not there.
    """
    record = record or json.loads(paths.record.read_text(encoding="utf-8"))
    stages = [stage["seconds"] for stage in record["run"]["stages"].values() if stage["seconds"] is not None]
    return Row(
        seconds=round(sum(stages), 3) if stages else None,
        peak_memory=record["run"]["peak_memory_bytes"],
        version=record["versions"]["bundle"],
        flags=tuple(dict.fromkeys(flag["code"] for flag in record["flags"])),
        quality=lowest(record.get("quality")),
        label_map_sha256=record["outputs"].get(paths.label_map.name, ""),
        totals={name: total["volume_mm3"] for name, total in record["volumes"].items()},
        volumes={name: structure["volume_mm3"] for name, structure in record["structures"].items()},
        asymmetries=_asymmetries(paths),
    )


def _asymmetries(paths: OutputPaths) -> dict[str, float | None]:
    """Return the asymmetry of each pair; the two rows of a pair have the same."""
    with open(paths.volumes, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    names = [(row, *split_side(row["name"])) for row in rows]
    left, right = ({name for _, side, name in names if side == wanted} for wanted in ("left", "right"))
    return {
        name: float(row["asymmetry"]) if row["asymmetry"] else None
        for row, _, name in names
        if name in left and name in right
    }
