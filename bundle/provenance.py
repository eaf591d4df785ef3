"""Where a result comes from: versions of what made it, and hashes of what it was made of."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

METADATA = Path(__file__).resolve().parents[1] / "configs" / "metadata.json"
BLOCK = 1 << 20


def sha256(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in blocks.

    Raises:
        OSError: when the file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def hashed_files(paths: Iterable[str | Path]) -> list[dict[str, str]]:
    """Return name, without its folder, and SHA-256 of each file."""
    return [{"name": Path(path).name, "sha256": sha256(path)} for path in paths]


def bundle_name() -> str:
    """Return the name of this bundle, from its metadata."""
    return str(json.loads(METADATA.read_text(encoding="utf-8"))["name"])


def bundle_version() -> str:
    """Return the version of this bundle, from its metadata."""
    return str(json.loads(METADATA.read_text(encoding="utf-8"))["version"])


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of this bundle (``bundle``), of Python (``python``), and of those packages that are there."""
    found = {"bundle": bundle_version(), "python": platform.python_version()}
    found |= {package: number for package in packages if (number := _version(package))}
    return found


@cache
def _version(package: str) -> str | None:
    """Return the version of a package, looked up once: a process has one, and to parse its metadata takes 10 ms."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
