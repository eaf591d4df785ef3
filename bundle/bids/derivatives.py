"""Results as a BIDS derivative: label map, sidecar and volumes of each scan under its subject, and what describes them.

::

    dataset_description.json   desc-aseg_dseg.tsv   desc-aseg_morph.json   .bidsignore
    sub-X/[ses-Y/]anat/sub-X_..._desc-aseg_dseg.nii.gz, _dseg.json, _morph.tsv

They are copies of a scan's results: the entities of its name are kept, and those of another image than a T1w say in
whose space they are (``space-T2w``), since a participant has several. A label map that somebody has corrected, which
the hash in its sidecar tells, is never replaced. ``tests/scripts/test_bids_app.py`` holds it, by BIDS's validator.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from bundle.bids.entities import DESCRIPTION, BidsScan
from bundle.choices import DEFAULT_BIDS_SUFFIX
from bundle.errors import ExistsError, InputError
from bundle.io.whole import sweep, whole_file, whole_set
from bundle.labels import Label
from bundle.provenance import bundle_name, bundle_version, sha256
from bundle.results import OutputPaths

BIDS_VERSION = "1.10.0"
DESC = "desc-aseg"
RAW = "raw"
"""What BIDS URIs call the data set that the scans are from."""
HASH = "LabelMapSHA256"
MISSING = "n/a"
COLUMNS = {
    "index": {"Description": "Code in the label map"},
    "name": {"Description": "Structure"},
    "voxels": {"Description": "Voxels of the scan's grid"},
    "volume_mm3": {"Description": "Volume", "Units": "mm^3"},
    "touches_border": {"Description": "Whether it reaches the border of the image: the volume is a lower bound"},
    "fraction": {"Description": "Share of the intracranial volume"},
    "asymmetry": {"Description": "(L - R) / mean of L and R"},
    "z": {"Description": "How far the volume lies off the usual one in a head of this size, in standard deviations"},
    "confidence": {"Description": "Mean margin of the largest probability, 0 to 1"},
    "flags": {"Description": "Reasons to look twice, separated by semicolons"},
}


@dataclass(frozen=True)
class DerivativePaths:
    """The files of a scan; the label map is put in place last."""

    volumes: Path
    sidecar: Path
    label_map: Path

    @classmethod
    def of(cls, scan: BidsScan, root: Path) -> DerivativePaths:
        """Return where they go in a derivative."""
        session = [f"ses-{scan.session}"] if scan.session else []
        folder = root.joinpath(f"sub-{scan.subject}", *session, "anat")
        space = "" if scan.suffix == DEFAULT_BIDS_SUFFIX else f"_space-{scan.suffix}"
        stem = f"{scan.stem}{space}_{DESC}"
        endings = ("morph.tsv", "dseg.json", "dseg.nii.gz")
        return cls(*(folder / f"{stem}_{ending}" for ending in endings))


def describe_derivative(root: Path, source: Path, table: Sequence[Label], ignored: Sequence[str]) -> None:
    """Write what a derivative is, its label table and what its columns mean; those that are there are replaced.

    Args:
        root: the derivative.
        source: the data set that the scans are from.
        table: the structures, background first.
        ignored: patterns of what is no BIDS.

    Raises:
        InputError: when the folder is another data set.
    """
    description = root / DESCRIPTION
    if description.exists() and _generator(description) != bundle_name():
        found = "describes a data set that something else has made"
        raise InputError(description, found, "a folder of its own is wanted for the results", "exists")
    here = os.path.relpath(source, root)
    content = {
        "Name": f"{bundle_name()}: label maps of {source.absolute().name}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": bundle_name(), "Version": bundle_version()}],
        "SourceDatasets": [_source(source, here)],
        "DatasetLinks": {RAW: here},
    }
    rows = [(label.code, label.name, "#{:02x}{:02x}{:02x}".format(*label.colour)) for label in table]
    lines = ["index\tname\tcolor", *("\t".join(map(str, row)) for row in rows)]
    for path, text in (
        (root / f"{DESC}_dseg.tsv", "\n".join(lines)),
        (root / f"{DESC}_morph.json", json.dumps(COLUMNS, indent=2)),
        (root / ".bidsignore", "\n".join(ignored)),
        (description, json.dumps(content, indent=2)),
    ):
        with whole_file(path, overwrite=True) as unfinished:
            unfinished.write_text(f"{text}\n", encoding="utf-8")


def write_derivatives(scan: BidsScan, results: OutputPaths, root: Path, source: Path) -> DerivativePaths:
    """Copy the results of a scan to their places in a derivative, unless they are there.

    Raises:
        ExistsError: when somebody has corrected the label map that is there.
        OSError: when they cannot be written.
    """
    paths = DerivativePaths.of(scan, root)
    sweep(paths.label_map.parent)
    digest = sha256(results.label_map)
    if paths.label_map.exists() and (there := sha256(paths.label_map)) != _hash(paths.sidecar):
        wanted = "the map as it was written, or a free name, is wanted"
        raise ExistsError(paths.label_map, f"was changed since it was written (now {there[:8]}...)", wanted)
    if _hash(paths.sidecar) == digest and paths.label_map.exists() and paths.volumes.exists():
        return paths
    sidecar = json.loads(results.sidecar.read_text(encoding="utf-8"))
    sidecar["Sources"] = [f"bids:{RAW}:{scan.path.relative_to(source).as_posix()}"]
    sidecar[HASH] = digest
    with whole_set(astuple(paths), overwrite=True) as unfinished:
        written = DerivativePaths(*unfinished)
        _write_volumes(results.volumes, written.volumes)
        written.sidecar.write_text(json.dumps(sidecar, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(results.label_map, written.label_map)
    return paths


def _write_volumes(source: Path, path: Path) -> None:
    """Write a table of volumes with BIDS's name for a code and its word for what is not there."""
    with open(source, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(row["code" if name == "index" else name] or MISSING for name in COLUMNS) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _source(source: Path, here: str) -> Mapping[str, Any]:
    """Return how a description names the data set that scans are from: by its DOI, else by its place."""
    doi = _read(source / DESCRIPTION).get("DatasetDOI")
    return {"DOI": doi} if isinstance(doi, str) and doi else {"URL": here}


def _generator(path: Path) -> str | None:
    try:
        return str(_read(path)["GeneratedBy"][0]["Name"])
    except (LookupError, TypeError):
        return None


def _hash(sidecar: Path) -> str | None:
    found = _read(sidecar).get(HASH)
    return found if isinstance(found, str) else None


def _read(path: Path) -> Mapping[str, Any]:
    """Return a JSON object, an empty one where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
