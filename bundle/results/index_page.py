"""The page of a folder of results, ``index.html``: a table of all scans, and how their volumes are distributed.

``tests/bundle/results/test_page_set.py`` and ``tests/browser`` hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.io.names import printable
from bundle.labels import split_side
from bundle.results.finished import Finished
from bundle.results.html import fingerprint, plain, shown, write_html
from bundle.results.outliers import FEWEST, LIMIT, robust_z
from bundle.results.ratings import Rating

SCRIPTS = ("ratings.js", "order.js", "plots.js", "index.js")
ASYMMETRY = "asymmetry "
TOTALS = {"intracranial": "intracranial, mL", "brain_without_ventricles": "brain, mL", "ventricles": "ventricles, mL"}
"""Those of the record's totals that have a column."""
MOST_NAMES = 3
"""Outliers that a row names."""


@dataclass(frozen=True)
class Entry:
    """A row of the table: a scan with results, or one that has none.

    Attributes:
        id: of the scan, unique in the table.
        status: what became of it.
        href: address of its page, relative to the index; empty where it has none.
        thumbnail: ``data:`` address of its picture.
        label_map_sha256: of its label map.
        flags: codes of its flags.
        quality: as the record predicts it.
        totals: mm³ by the names of ``bundle.results.totals``.
        volumes: mm³ by structure.
        asymmetries: by the name of a pair.
        largest_z: structure and ``z`` that lies farthest off the reference.
        rating: that of a file.
    """

    id: str
    status: str = "done"
    href: str = ""
    thumbnail: str = ""
    label_map_sha256: str = ""
    flags: Sequence[str] = ()
    quality: float | None = None
    totals: Mapping[str, float | None] = field(default_factory=dict)
    volumes: Mapping[str, float] = field(default_factory=dict)
    asymmetries: Mapping[str, float | None] = field(default_factory=dict)
    largest_z: tuple[str, float] | None = None
    rating: Rating | None = None

    @property
    def failed(self) -> bool:
        """Whether it has no results."""
        return not self.label_map_sha256

    def measure(self, name: str) -> float | None:
        """Return a total or a volume in mL, or an asymmetry; ``None`` where the scan has none."""
        if name.startswith(ASYMMETRY):
            return self.asymmetries.get(name[len(ASYMMETRY) :])
        volume = self.totals.get(name, self.volumes.get(name))
        return None if volume is None else volume / 1000


def entry_of(
    result: Finished, scan_id: str, href: str, thumbnail: str, rating: Rating | None = None, status: str = "done"
) -> Entry:
    """Return the row of a scan's results."""
    known = [(row.name, row.z) for row in result.rows if row.z is not None and "CSF" not in row.name]
    pairs = {split_side(row.name)[1]: row.asymmetry for row in result.rows if split_side(row.name)[0] == "left"}
    return Entry(
        id=scan_id,
        status=status,
        href=href,
        thumbnail=thumbnail,
        label_map_sha256=result.label_map_sha256,
        flags=list(dict.fromkeys(flag["code"] for flag in result.record["flags"])),
        quality=result.quality,
        totals={name: total["volume_mm3"] for name, total in result.record["volumes"].items()},
        volumes={row.name: row.volume_mm3 for row in result.rows},
        asymmetries=pairs,
        largest_z=max(known, key=lambda pair: abs(pair[1]), default=None),
        rating=rating,
    )


def write_index(entries: Sequence[Entry], path: str | Path, title: str) -> list[str]:
    """Write the page of all scans; an earlier one is replaced.

    Args:
        entries: the scans.
        path: the page; addresses in the entries are relative to it.
        title: of the page.

    Returns:
        The ids of the scans of which a measure lies far off the others'.

    Raises:
        WriteError: when it cannot be written.
    """
    done = [entry for entry in entries if not entry.failed]
    measures = _measures(done)
    numbers = _numbers(entries, measures)
    far = _far(numbers, measures)
    names = [name.replace("_", " ") for name in measures]
    with_units = [name if name.startswith(ASYMMETRY) else f"{name}, mL" for name in names]
    start = [
        measures.index(name) if name in measures else 0
        for name in ("ventricles", "intracranial", "brain_without_ventricles")
    ]
    failed = len(entries) - len(done)
    flagged = sum(bool(entry.flags) for entry in done)
    write_html(
        "index.html",
        SCRIPTS,
        Path(path),
        made_of=fingerprint("index"),
        thumbnail="",
        title=printable(title),
        subtitle=f"{len(done)} scans segmented, {flagged} of them flagged; {failed} without results",
        columns=_columns(),
        entries=[_row(entry, found, names) for entry, found in zip(entries, far, strict=True)],
        measures=with_units,
        limit=plain(LIMIT),
        fewest=FEWEST,
        content={
            "measures": with_units,
            "start": start,
            "scans": [_content(*scan) for scan in zip(entries, numbers, far, strict=True)],
        },
    )
    return [entry.id for entry, found in zip(entries, far, strict=True) if found]


def write_participant(entries: Sequence[Entry], path: str | Path, title: str, index: str) -> None:
    """Write the page of a participant, without scripts: its scans, each linked to its page.

    Args:
        entries: the scans; addresses in them are relative to the page.
        path: the page; an earlier one is replaced.
        title: of the page.
        index: address of the page of all scans.

    Raises:
        ExistsError: when a file that is no page of this bundle is in its place.
        WriteError: when it cannot be written.
    """
    write_html(
        "participant.html",
        (),
        Path(path),
        made_of=fingerprint("participant"),
        thumbnail="",
        title=printable(title),
        index=index,
        columns=["scan", "mark", "status", "flags", "quality", *TOTALS.values()],
        entries=[_row(entry, {}, ()) for entry in entries],
        content={},
    )


def _measures(entries: Sequence[Entry]) -> list[str]:
    """Return the names of all that was measured in any scan, totals first."""
    found: dict[str, None] = {}
    for entry in entries:
        found.update(dict.fromkeys(name for name, value in entry.totals.items() if value is not None))
    for entry in entries:
        found.update(dict.fromkeys(entry.volumes))
    for entry in entries:
        found.update({f"{ASYMMETRY}{name}": None for name in entry.asymmetries})
    return list(found)


def _numbers(entries: Sequence[Entry], measures: Sequence[str]) -> NDArray[np.float64]:
    """Return the measures of all scans, shape (scans, measures), NaN where there is none."""
    rows = [[entry.measure(name) for name in measures] for entry in entries]
    return np.array(rows, dtype=np.float64).reshape(len(entries), len(measures))


def _far(numbers: NDArray[np.float64], measures: Sequence[str]) -> list[dict[int, float]]:
    """Return for each scan the measures that lie far off those of the others, and how far, the farthest first."""
    z = np.full(numbers.shape, np.nan)
    for column, name in enumerate(measures):
        z[:, column] = robust_z(numbers[:, column], logarithms=not name.startswith(ASYMMETRY))
    found = []
    for row in z:
        columns = np.flatnonzero(np.abs(row) > LIMIT)
        found.append(
            {int(column): round(float(row[column]), 1) for column in columns[np.argsort(-np.abs(row[columns]))]}
        )
    return found


def _columns() -> list[dict[str, Any]]:
    """Return the heads of the columns after the picture, as the rows of ``pages/index.html`` have them."""
    return [
        {"name": "scan", "number": False, "title": ""},
        {"name": "mark", "number": False, "title": "given in this browser, or by a file of ratings"},
        {"name": "status", "number": False, "title": ""},
        {"name": "flags", "number": False, "title": "reasons to look twice"},
        {"name": "quality", "number": True, "title": "as the record predicts it"},
        *({"name": name, "number": True, "title": ""} for name in TOTALS.values()),
        {"name": "largest z", "number": True, "title": "farthest off the reference volumes, CSF left out"},
        {"name": "outliers", "number": False, "title": "far off the other scans here"},
    ]


def _row(entry: Entry, far: Mapping[int, float], names: Sequence[str]) -> dict[str, Any]:
    """Return what the table says of a scan, as text."""
    listed = [f"{names[column]} ({z:+.1f})" for column, z in list(far.items())[:MOST_NAMES]]
    more = len(far) - MOST_NAMES
    return {
        "name": printable(entry.id),
        "href": entry.href,
        "thumbnail": entry.thumbnail,
        "rating": entry.rating.rating if entry.rating else "",
        "status": shown(entry.status),
        "failed": entry.failed,
        "flags": "; ".join(entry.flags),
        "quality": plain(entry.quality, 2),
        "totals": [plain(entry.measure(name), 0) for name in TOTALS],
        "largest_z": plain(abs(entry.largest_z[1]), 2) if entry.largest_z else "",
        "largest_text": f"{entry.largest_z[1]:+.1f} {entry.largest_z[0]}" if entry.largest_z else "",
        "outliers": ", ".join(listed) + (f" and {more} more" if more > 0 else ""),
    }


def _content(entry: Entry, numbers: NDArray[np.float64], far: Mapping[int, float]) -> dict[str, Any]:
    """Return what the scripts read of a scan."""
    values = None if entry.failed else [None if np.isnan(value) else round(float(value), 3) for value in numbers]
    return {
        "id": entry.id,
        "name": printable(entry.id),
        "href": entry.href,
        "values": values,
        "far": far,
        "flagged": bool(entry.flags),
        "outlier": bool(far),
        "failed": entry.failed,
        "label_map_sha256": entry.label_map_sha256,
        "rating": entry.rating.content() if entry.rating else None,
    }
