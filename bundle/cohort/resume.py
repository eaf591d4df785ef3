"""What an earlier run left of a scan: a result that still holds, one to be made again, or one that somebody changed.

A result holds while its record is there and the hashes in it are those of the scan, of the outputs and of the weights
and the config that would make it now. Outputs with other hashes were changed by somebody, who may not want to lose
that: they are refused, never replaced. ``tests/bundle/cohort/test_cohort_resume.py`` holds it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from bundle.errors import ExistsError
from bundle.provenance import sha256
from bundle.results import Maker, OutputPaths

MOVED = "an untouched result, or a free name, is wanted (--overwrite does the scan again)"


@dataclass(frozen=True)
class Standing:
    """What there is of a result.

    Attributes:
        record: its record where it holds, else ``None``.
        reason: why it is made again, as a clause; empty where there was nothing.
    """

    record: Mapping[str, Any] | None = None
    reason: str = ""


def standing_of(paths: OutputPaths, image: str | Path, maker: Maker, trust_mtime: bool = False) -> Standing:
    """Return whether the result of a scan still holds.

    Args:
        paths: its files.
        image: the scan.
        maker: what would make it now.
        trust_mtime: take a scan and outputs that are no newer than the record for unchanged, and do not read them.

    Raises:
        ExistsError: when an output is there without a record, or was changed since it was written.
    """
    if not paths.record.exists():
        for path in astuple(paths):
            if path.exists():
                raise ExistsError(path, "is there without the record of a result", MOVED)
        return Standing()
    record = read_record(paths.record)
    if record is None:
        return Standing(None, "its record cannot be read")
    made = paths.record.stat().st_mtime_ns if trust_mtime else None
    for name, digest in record["outputs"].items():
        path = paths.record.with_name(name)
        if not path.exists():
            return Standing(None, f"{name} is missing")
        if not _unchanged(path, digest, made):
            raise ExistsError(path, "was changed since it was written", MOVED)
    if not _unchanged(Path(image), record["input"]["sha256"], made):
        return Standing(None, "the scan has changed")
    for what, now in (("weights", maker.weights_content), ("config", maker.config_content)):
        if record[what] != _as_json(now):
            return Standing(None, f"the {what} {'have' if what == 'weights' else 'has'} changed")
    return Standing(record)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return a record, ``None`` where the file holds none: torn, or of another kind."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        fields = (record["outputs"].items, record["input"]["sha256"], record["weights"], record["config"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return record if fields else None


def _unchanged(path: Path, digest: str | None, made: int | None) -> bool:
    try:
        return path.stat().st_mtime_ns <= made if made is not None else sha256(path) == digest
    except OSError:
        return False  # whoever reads the scan says why


def _as_json(content: Any) -> Any:
    return json.loads(json.dumps(content))
