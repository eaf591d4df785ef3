"""Marks that people gave to results, as the pages export them: read back, and joined with what is known of the scans.

``tests/bundle/results/test_ratings.py`` holds it.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from bundle.errors import ExistsError, InputError, MissingError
from bundle.io.whole import whole_file

COLUMNS = ("id", "rating", "note", "rated_at", "label_map_sha256")
"""As ``pages/ratings.js`` writes them."""
RATINGS = ("pass", "fail", "")
"""Empty: a note alone, or a mark that was taken back."""
JOINED = (*COLUMNS, "current", "status", "flags", "quality")


@dataclass(frozen=True)
class Rating:
    """What a person said of a label map: ``pass``, ``fail`` or nothing, a note, when (ISO 8601), and of which one."""

    id: str
    rating: str
    note: str
    rated_at: str
    label_map_sha256: str

    def content(self) -> dict[str, str]:
        """Return it as the pages keep it."""
        return {name: getattr(self, name) for name in COLUMNS[1:]}


@dataclass(frozen=True)
class Rated:
    """A scan as the joined table has it; ``None`` for what was not known."""

    label_map_sha256: str
    status: str
    flags: Sequence[str]
    quality: float | None


def read_ratings(paths: Iterable[str | Path]) -> dict[str, Rating]:
    """Read exported marks, by the scan's id; of several of one scan the last one given counts.

    Raises:
        MissingError: when there is no such file.
        InputError: when it is no such table.
    """
    found: dict[str, Rating] = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise MissingError(path, "not found", "ratings that a page exported are wanted")
        for rating in _read(path):
            if rating.id not in found or found[rating.id].rated_at <= rating.rated_at:
                found[rating.id] = rating
    return found


def write_rated(ratings: Mapping[str, Rating], scans: Mapping[str, Rated], path: str | Path) -> None:
    """Write marks and what is known of their scans as tab-separated text; an earlier such table is replaced.

    ``current`` says whether the label map is still the one that was looked at. A mark of a scan that is not there
    keeps its row.

    Args:
        ratings: the marks by id.
        scans: the scans by id.
        path: the file.

    Raises:
        ExistsError: when another table is in its place.
        WriteError: when it cannot be written.
    """
    header = "\t".join(JOINED) + "\n"
    if os.path.lexists(path) and not Path(path).read_bytes().startswith(header.encode()):
        raise ExistsError(path, wanted="a free name, or an earlier table of ratings, is wanted")
    rows = []
    for name in sorted(ratings.keys() | scans.keys()):
        rating = ratings.get(name, Rating(name, "", "", "", ""))
        rows.append((*astuple(rating), *_known(rating, scans.get(name))))
    with whole_file(path, overwrite=True) as unfinished, open(unfinished, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows((JOINED, *rows))


def _known(rating: Rating, scan: Rated | None) -> tuple[str, str, str, str]:
    if scan is None:
        return "", "not here", "", ""
    current = str(rating.label_map_sha256 == scan.label_map_sha256).lower() if rating.rated_at else ""
    quality = "" if scan.quality is None else f"{scan.quality:.4f}"
    return current, scan.status, ";".join(scan.flags), quality


def _read(path: Path) -> list[Rating]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
            if missing:
                raise ValueError(f"no column {missing[0]}")
            rows = [Rating(*((row[column] or "").strip() for column in COLUMNS)) for row in reader]
    except (ValueError, csv.Error) as error:
        raise InputError(
            path, f"cannot be read as ratings ({error})", f"the columns {', '.join(COLUMNS)} are wanted"
        ) from error
    for number, row in enumerate(rows, 2):
        if row.rating not in RATINGS:
            raise InputError(
                path, f"found the rating {row.rating!r} in line {number}", "pass, fail or nothing is wanted"
            )
    return rows
