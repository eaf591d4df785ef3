"""The scan that was read last, kept for whoever writes its results and would read it again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bundle.errors import BundleError, BundleWarning
from bundle.io.names import header_and_image
from bundle.io.read import Volume, read_volume
from bundle.io.reading import Reading
from bundle.warned import warn, warnings_kept

LARGEST = 1 << 26
"""Bytes of a scan as intensities that is kept, 256^3 voxels; a larger one is read again, memory counts more there."""


@dataclass(frozen=True)
class _Kept:
    reading: tuple[bool, int | None, str]
    stamps: tuple[tuple[int, ...], ...]
    volume: Volume
    warnings: list[BundleWarning]


_last: _Kept | None = None


def read_and_keep(
    path: str | Path, assume_affine: bool = False, fill_nonfinite: bool = False, frame: int | None = None,
    trust: str = "",
) -> Volume:  # fmt: skip
    """Read a scan as :func:`bundle.io.read.read_volume` does, and keep a copy for :func:`read_again`."""
    global _last
    _last = None
    stamps = _stamps(path)
    with warnings_kept() as given:
        volume = read_volume(path, assume_affine, fill_nonfinite, frame, trust)
    for warning in given:
        warn(warning, stacklevel=2)
    if volume.data.nbytes <= LARGEST and stamps:
        copied = replace(volume, data=volume.data.copy(order="F"))
        _last = _Kept((fill_nonfinite, frame, trust), stamps, copied, given)
    return volume


def read_again(path: str | Path, reading: Reading) -> tuple[Volume, list[BundleWarning]]:
    """Return a scan that was read before, and what its reading warned of, which is not given once more.

    It is what was kept, and is kept no longer, if it was read last and its files are as they were; else it is read.

    Raises:
        InputError: when it has to be read and cannot be.
    """
    global _last
    last, _last = _last, None
    wanted = (reading.fill_nonfinite, reading.frame, reading.trust)
    if last is not None and (last.volume.path, last.reading, last.stamps) == (Path(path), wanted, _stamps(path)):
        return last.volume, last.warnings
    with warnings_kept() as given:
        volume = read_volume(path, True, reading.fill_nonfinite, reading.frame, reading.trust)
    return volume, given


def _stamps(path: str | Path) -> tuple[tuple[int, ...], ...]:
    """Return what changes when somebody writes a scan's files; nothing where one is missing."""
    try:
        found = [file.stat() for file in header_and_image(path)]
    except (OSError, BundleError):
        return ()
    return tuple((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in found)
