"""What a training is of: values by id that must be equal for one training to go on from another's checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.errors import TrainingError
from bundle.labels import Label
from bundle.model.folder import MODEL_FILE, read_content
from bundle.provenance import sha256

DIGITS = 12
"""Hexadecimal digits of a hash that a person compares; 48 bits tell apart any two data sets that somebody has."""


def digest(content: Any) -> str:
    """Return a short hash of what JSON can hold; the order of keys does not count."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def files_digest(folder: str | Path, images: Iterable[Path], labels: Iterable[Path]) -> str:
    """Return a short hash of the files of a data set, wherever it lies.

    Images count by name and size, label maps by name and content: these are small, and are what people correct.
    """
    root = Path(folder).resolve()

    def name(path: Path) -> str:
        return path.resolve().relative_to(root).as_posix() if path.resolve().is_relative_to(root) else path.name

    sizes = sorted((name(path), path.stat().st_size) for path in images)
    hashes = sorted((name(path), sha256(path)) for path in labels)
    return digest([sizes, hashes])


def table_value(table: Sequence[Label]) -> str:
    """Return the codes and names of a label table as a value that can be compared and shown."""
    content = [[label.code, label.name] for label in table]
    return f"{len(table) - 1} structures ({digest(content)})"


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return id and both values wherever two fingerprints differ, in the order of the first.

    An id that only one of them has does not count: a later version may know more.
    """
    return [(name, value, second[name]) for name, value in first.items() if name in second and second[name] != value]


def check_same_training(folder: str | Path, fingerprint: Mapping[str, Any], restart: bool = False) -> None:
    """Refuse to go on in a folder with the weights of a training that is of something else.

    Args:
        folder: where a training writes.
        fingerprint: what it is of, or what of that is known yet.
        restart: whether what is there is to be replaced.

    Raises:
        TrainingError: naming the first id that differs, both values, and the way out.
    """
    path = Path(folder) / MODEL_FILE
    if restart or not path.is_file() or not any(Path(folder).glob("*.pt")):
        return
    check_same(folder, read_content(path)["fingerprint"], fingerprint)


def check_same(path: str | Path, earlier: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> None:
    """Refuse a training whose fingerprint differs from an earlier one, which ``path`` holds.

    Raises:
        TrainingError: naming the first id that differs, both values, and the way out.
    """
    found = differences(earlier, fingerprint)
    if found:
        name, before, now = found[0]
        others = f" ({', '.join(other for other, *_ in found[1:])} too)" if found[1:] else ""
        message = f"found a training with {name} {_shown(before)}, this one has {_shown(now)}{others}"
        raise TrainingError(path, message, "another --output_dir, or --restart True, is wanted")


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (list, str)) or value is None else str(value)
