"""Results that lie on the disk, read back: the record and the volumes of a scan, and the scan where it is found.

``tests/bundle/results/test_finished.py`` holds it.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bundle.errors import InputError, MissingError
from bundle.labels import DEFAULT_TABLE, Label, distinct_colour, read_labels
from bundle.provenance import sha256
from bundle.results.outputs import OutputPaths
from bundle.results.quality import lowest

RECORD_ENDING = "_record.json"
NEEDED = ("flags", "input", "outputs", "versions", "computation", "volumes", "structures", "run")
"""Fields of a record that pages are made of."""


@dataclass(frozen=True)
class Row:
    """A row of a table of volumes; ``None`` for what was not known."""

    code: int
    name: str
    volume_mm3: float
    touches_border: bool
    asymmetry: float | None
    z: float | None
    confidence: float | None
    flags: tuple[str, ...]
    expected_mm3: float | None


@dataclass(frozen=True)
class Finished:
    """The results of a scan.

    Attributes:
        paths: their files.
        record: their record.
        record_sha256: its SHA-256.
        rows: the structures, in the order of the label table, background left out.
    """

    paths: OutputPaths
    record: Mapping[str, Any]
    record_sha256: str
    rows: Sequence[Row]

    @property
    def name(self) -> str:
        """The scan's name without its suffix."""
        return self.paths.record.name[: -len(RECORD_ENDING)]

    @property
    def label_map_sha256(self) -> str:
        """SHA-256 of the label map, as the record has it."""
        return str(self.record["outputs"][self.paths.label_map.name])

    @property
    def quality(self) -> float | None:
        """What the record predicts of the result; the lowest where it does so for groups of structures."""
        return lowest(self.record.get("quality"))

    @cached_property
    def labels(self) -> list[Label]:
        """The structures with colours: the brain's where they are its structures, else made up."""
        brain = {(label.code, label.name): label for label in read_labels(DEFAULT_TABLE)}
        return [
            brain.get((row.code, row.name), Label(channel, row.code, row.name, distinct_colour(channel)))
            for channel, row in enumerate(self.rows, 1)
        ]


def find_finished(folder: str | Path) -> list[OutputPaths]:
    """Return the results in a folder and those inside it, in the order of their paths.

    Raises:
        MissingError: when there is no such folder, or no record in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingError(folder, "not found", "a folder of results is wanted")
    found = []
    for path in sorted(folder.rglob(f"*{RECORD_ENDING}")):
        name = path.name[: -len(RECORD_ENDING)]
        if name and path.parent.name == name:
            found.append(OutputPaths.of(f"{name}.nii.gz", path.parent.parent))
    if not found:
        raise MissingError(folder, f"found no NAME/NAME{RECORD_ENDING} in it", "a folder of results is wanted")
    return found


def read_finished(paths: OutputPaths) -> Finished:
    """Read the record and the volumes of a scan.

    Raises:
        MissingError: when one of its files is missing.
        InputError: when one of them cannot be used.
    """
    for path in (paths.record, paths.volumes, paths.label_map):
        if not path.is_file():
            raise MissingError(path, "not found", "whole results are wanted")
    try:
        content = json.loads(paths.record.read_text(encoding="utf-8"))
        missing = [name for name in NEEDED if name not in content]
        if missing or paths.label_map.name not in content["outputs"]:
            raise KeyError(missing[0] if missing else paths.label_map.name)
        usual = {name: structure["expected_mm3"] for name, structure in content["structures"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            paths.record, f"cannot be read as a record ({error})", "see configs/record.schema.json"
        ) from error
    try:
        with open(paths.volumes, encoding="utf-8", newline="") as file:
            rows = [_row(row, usual) for row in csv.DictReader(file, delimiter="\t")]
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(paths.volumes, f"cannot be read as volumes ({error})", "see docs/results.md") from error
    if not rows:
        raise InputError(paths.volumes, "found 0 structures", "1 at least is wanted")
    return Finished(paths, content, sha256(paths.record), rows)


@dataclass
class ScanFinder:
    """Finds the scans that results are of, which records name without a folder.

    Attributes:
        folders: where to look, folders inside them included.
        known: paths that a table gives, by the scan's name without its suffix or its id.
    """

    folders: Iterable[str | Path] = ()
    known: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for top in self.folders:
            for folder, _, names in os.walk(top):
                for name in names:
                    found.setdefault(name, []).append(Path(folder) / name)
        return found

    def find(self, result: Finished) -> tuple[Path | None, str]:
        """Return the scan of a result and why it was not found: ``""`` or a clause.

        A file of the scan's name with other bytes is another scan.
        """
        name, wanted = str(result.record["input"]["name"]), result.record["input"]["sha256"]
        folder = result.paths.record.parent
        listed = [self.known[key] for key in (result.name, folder.parent.name) if key in self.known]
        candidates = [*map(Path, listed), folder / name, folder.parent / name, *self._by_name.get(name, ())]
        there = [path for path in candidates if path.is_file()]
        if not there:
            return None, "the scan was not found"
        for path in there:
            if wanted is None or sha256(path) == wanted:
                return path, ""
        return None, "the file of the scan's name has changed since"


def _row(row: Mapping[str, str], usual: Mapping[str, float | None]) -> Row:
    def number(column: str) -> float | None:
        return float(row[column]) if row.get(column) else None

    return Row(
        code=int(row["code"]),
        name=row["name"],
        volume_mm3=float(row["volume_mm3"]),
        touches_border=row["touches_border"] == "true",
        asymmetry=number("asymmetry"),
        z=number("z"),
        confidence=number("confidence"),
        flags=tuple(filter(None, (row.get("flags") or "").split(";"))),
        expected_mm3=usual.get(row["name"]),
    )
