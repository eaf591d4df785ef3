"""The page of a scan, ``NAME.html``: three planes with labels, volumes against the reference, flags, record, a mark.

``tests/bundle/results/test_page_set.py`` and ``tests/browser`` hold it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.errors import InputError
from bundle.io import read_label_map, read_volume
from bundle.io.names import printable
from bundle.provenance import sha256
from bundle.results.browser_volume import BrowserVolume, browser_volume, thumbnail
from bundle.results.finished import Finished, Row
from bundle.results.html import described, fingerprint, page_head, plain, shown, write_html
from bundle.results.scene import Scene, make_scene

SCRIPTS = ("ratings.js", "order.js", "viewer.js", "scan.js")
SPAN, BAND = 6.0, 2.0
"""SD at the ends of a bar, as in the flag ``volume``, and of what is shaded as usual (95 % of normal data)."""
BAR_WIDTH = 240
"""Pixels, as in ``pages/scan.html``."""


@dataclass(frozen=True)
class Neighbour:
    """A page that one steps to: its name, and its address relative to this page."""

    name: str
    href: str


@dataclass(frozen=True)
class Place:
    """Where a page stands among others; addresses are relative to the page, empty where there is none.

    Attributes:
        id: of the scan, unique in the index.
        index: the page of all scans, in whose folder marks are kept; ``index.html`` beside the page where none exists.
        previous: the page before it.
        next: the page after it.
    """

    id: str
    index: str = ""
    previous: Neighbour | None = None
    next: Neighbour | None = None


def write_page(
    result: Finished,
    page: str | Path,
    place: Place | None = None,
    scan: str | Path | None = None,
    reason: str = "",
    renew: bool = False,
) -> bool:
    """Write the page of a scan, unless one that was made of the same is there.

    Args:
        result: the results, see :func:`bundle.results.finished.read_finished`.
        page: the file.
        place: where it stands among others.
        scan: the scan; without it the labels alone are shown.
        reason: why there is none.
        renew: write it anew in any case.

    Returns:
        Whether it was written.

    Raises:
        InputError: when the scan or its label map cannot be used, or the label map has changed since.
        WriteError: when the page cannot be written.
    """
    page, place = Path(page), place or Place(result.name)
    label_map = result.paths.label_map
    if sha256(label_map) != result.label_map_sha256:
        raise InputError(label_map, "has changed since its record was written", "the recorded one is wanted", "pairs")
    made_of = fingerprint(result.record_sha256, repr(place), scan is not None, reason)
    if not renew and page_head(page)[0] == made_of:
        return False
    scene = _scene(result, scan)
    volume = browser_volume(scene, result.labels, scan is not None)
    limit = np.array(volume.channels.shape) - 1
    start = [int(index) for index in np.minimum(scene.centre() // np.array(volume.reduced), limit)]
    places = volume.places(len(result.rows))
    content = {
        "id": place.id,
        "index": place.index or "index.html",
        "label_map_sha256": result.label_map_sha256,
        "structures": _structures(result, places),
        "volume": volume.content(start),
    }
    write_html(
        "scan.html",
        SCRIPTS,
        page,
        made_of=made_of,
        thumbnail=thumbnail(volume, result.labels, start),
        index=place.index,
        previous=place.previous,
        next=place.next,
        rows=_rows(result, places),
        shown_as=_shown_as(volume, reason),
        content=content,
        **_texts(result),
    )
    return True


def _scene(result: Finished, scan: str | Path | None) -> Scene:
    """Return what is shown."""
    path = result.paths.label_map
    read = result.record["input"]
    assume_affine, trust = read["affine_source"] == "assumed", read["trusted"]
    label_map = read_label_map(path, assume_affine, trust)
    if scan is None:
        image = np.zeros(label_map.codes.shape, dtype=np.uint8)
    else:
        image = read_volume(scan, assume_affine, bool(read["voxels_filled"]), read["frame"], trust).data
        if image.shape != label_map.codes.shape:
            found = f"found {image.shape} voxels, and {label_map.codes.shape} in {path.name}"
            raise InputError(scan, found, "the scan of the label map is wanted", "grid")
    return make_scene(image, label_map.codes, label_map.grid.affine, background=0)


def _texts(result: Finished) -> dict[str, Any]:
    """Return what the page says that is in the record."""
    return {
        "title": printable(result.name),
        "subtitle": _subtitle(result.record),
        "flags": result.record["flags"],
        "warnings": result.record["input"]["warnings"],
        "totals": _totals(result.record),
        "facts": _facts(result),
        "record": json.dumps(result.record, indent=2),
        "span": plain(SPAN),
        "band": plain(BAND),
    }


def _structures(result: Finished, places: Sequence[list[int] | None]) -> list[dict[str, Any]]:
    """Return what the viewer says of each structure."""
    return [
        {
            "name": printable(row.name),
            "code": row.code,
            "colour": list(label.colour),
            "volume_ml": round(row.volume_mm3 / 1000, 3),
            "z": row.z,
            "at": at,
        }
        for row, label, at in zip(result.rows, result.labels, places, strict=True)
    ]


def _rows(result: Finished, places: Sequence[list[int] | None]) -> list[dict[str, Any]]:
    """Return the rows of the table of volumes."""
    return [
        {
            "channel": channel,
            "name": printable(row.name),
            "code": row.code,
            "fill": "#{:02x}{:02x}{:02x}".format(*label.colour),
            "at": at,
            "ml": plain(row.volume_mm3 / 1000, 2),
            "expected": plain(None if row.expected_mm3 is None else row.expected_mm3 / 1000, 2),
            "z_text": plain(row.z, 1),
            "bar": _bar(row),
            "asymmetry": plain(row.asymmetry, 2),
            "confidence": plain(row.confidence, 2),
            "border": row.touches_border,
            "flags": "; ".join(row.flags),
        }
        for channel, (row, label, at) in enumerate(zip(result.rows, result.labels, places, strict=True), 1)
    ]


def _bar(row: Row) -> dict[str, Any] | None:
    """Return where a bar of ``z`` begins and how long it is, in pixels; ``None`` without a reference."""
    if row.z is None:
        return None
    half = BAR_WIDTH / 2
    length = half * min(abs(row.z), SPAN) / SPAN
    return {
        "left": round(half if row.z >= 0 else half - length, 1),
        "width": round(length, 1),
        "band_left": round(half - half * BAND / SPAN, 1),
        "band_width": round(2 * half * BAND / SPAN, 1),
        "beyond": abs(row.z) > BAND,
    }


def _subtitle(record: Mapping[str, Any]) -> str:
    scan = record["input"]
    shape = " x ".join(map(str, scan["shape"]))
    spacing = " x ".join(plain(length) for length in scan["spacing_mm"])
    return f"{shown(scan['name'])}: {shape} voxels of {spacing} mm, {scan['orientation']}"


def _totals(record: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "name": name.replace("_", " "),
            "ml": plain(total["volume_mm3"] / 1000, 1),
            "definition": total["definition"],
        }
        for name, total in record["volumes"].items()
        if total["volume_mm3"] is not None
    ]


def _facts(result: Finished) -> list[tuple[str, str]]:
    """Return what made the result, in words."""
    record = result.record
    computation, scan, run = record["computation"], record["input"], record["run"]
    stages = [stage["seconds"] for stage in run["stages"].values() if stage["seconds"] is not None]
    packages = [f"{name} {version}" for name, version in record["versions"].items() if name != "bundle"]
    weights = [f"{name} {digest}" for name, digest in (record.get("weights") or {}).items()]
    model, config = record.get("model") or {}, record.get("config") or {}
    words = [computation[name] for name in ("engine", "precision", "device") if computation[name] is not None]
    threads = computation["threads"]
    return described(
        {
            "bundle": record["versions"]["bundle"],
            "model": model.get("task"),
            "set otherwise than trained": ", ".join(model.get("differences") or []),
            "weights, SHA-256": ", ".join(weights),
            "computed by": ", ".join([*words, *([f"{threads} thread{'s' if threads > 1 else ''}"] if threads else [])]),
            "predicted quality": plain(result.quality, 2),
            "scan, SHA-256": scan["sha256"],
            "label map, SHA-256": result.label_map_sha256,
            "affine from": scan["affine_source"],
            "config, SHA-256": config.get("sha256"),
            "versions": ", ".join(packages),
            "seconds": plain(sum(stages), 1) if stages else None,
            "peak memory": f"{run['peak_memory_bytes'] / 1e9:.1f} GB" if run["peak_memory_bytes"] else None,
        }
    )


def _shown_as(volume: BrowserVolume, reason: str) -> str:
    """Return how the voxels in the page differ from the scan's."""
    spacing = " x ".join(plain(length) for length in volume.spacing)
    coarser = ", coarser than the scan's to keep the page small" if max(volume.reduced) > 1 else ""
    if volume.grey is None:
        return f"Labels alone: {reason or 'no scan was given'}. Voxels of {spacing} mm{coarser}."
    return f"Voxels of {spacing} mm{coarser}; 256 levels of grey, black and white at percentiles 1 and 99."
