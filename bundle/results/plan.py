"""Where the results of scans go, settled before a network runs: what could not be written there is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from bundle.errors import BundleError, ExistsError, InputError, OptionError, WriteError
from bundle.io.inspect import inspect_volume
from bundle.io.whole import PREFIX, refuse_existing
from bundle.machine import available_memory
from bundle.results.failures import Failures
from bundle.results.outputs import OutputPaths

LONGEST_NAME, LONGEST_PATH = 255, 4096
"""Bytes, where the system does not say (Linux)."""
UNFINISHED = 2 * (len(PREFIX) + 17)
"""Bytes that the path of a file of a set is longer by while it grows, see ``bundle.io.whole``."""
PICTURE_BYTES = 1 << 20
"""The picture and the tables of the MNI152 take 0.9 MB."""
VOXELS_PER_BYTE = 10
"""The compressed label map of the MNI152 holds 30 voxels in a byte at 1 mm, 14 at 3 mm."""


@dataclass
class Plan:
    """Which scans can have their results written, in the order given.

    Attributes:
        scans: those that can.
        refused: the others, with the reason.
    """

    scans: list[str] = field(default_factory=list)
    refused: list[tuple[str, BundleError]] = field(default_factory=list)


def plan_outputs(sources: Iterable[str | Path], output_dir: str | Path, overwrite: bool) -> Plan:
    """Sort out the scans whose results cannot be written; of several of one name the first is kept.

    Raises:
        BundleError: when the folder of the outputs itself cannot be used, see ``check_output_dir``.
    """
    check_output_dir(output_dir)
    plan = Plan()
    first: dict[str, str] = {}
    names = [str(source) for source in sources]
    inputs = {os.path.realpath(name): name for name in names}
    for source in names:
        stem = OutputPaths.of(source, output_dir).label_map.parent.name
        try:
            if stem in first:
                found = f"found the name {stem} in {first[stem]} too"
                raise InputError(source, found, "one output for each scan is wanted", "pairs")
            for path in astuple(check_outputs_of(source, output_dir, overwrite)):
                if os.path.realpath(path) in inputs:
                    reader = inputs[os.path.realpath(path)]
                    raise OptionError(path, f"is an input too ({reader})", "another output folder is wanted")
        except BundleError as error:
            plan.refused.append((source, error))
        else:
            first[stem] = source
            plan.scans.append(source)
    return plan


def check_outputs(
    items: Sequence[Mapping[str, Any]], output_dir: str | Path, overwrite: bool, failures: Failures | None = None
) -> None:
    """Refuse the scans of a MONAI workflow whose outputs could not be written, before its network is loaded.

    Args:
        items: the workflow's data, ``{"image": path}`` each; a list loses those that are refused where ``failures``
            collects them.
        output_dir: folder of the outputs.
        overwrite: replace existing files.
        failures: what collects the reasons; without it the first one is raised.

    Raises:
        BundleError: when the folder cannot be used, no scan is left, or nothing collects the reasons.
    """
    failures = failures or Failures("raise")
    failures.scans = len(items)
    plan = plan_outputs([str(item["image"]) for item in items], output_dir, overwrite)
    for source, error in plan.refused:
        failures.add(error, source)
    if plan.refused and isinstance(items, list):
        first = {str(item["image"]): item for item in reversed(items)}  # a scan given twice is refused once
        items[:] = [first[scan] for scan in plan.scans]
    if not plan.scans:
        failures.finish()


def check_output_dir(output_dir: str | Path) -> None:
    """Refuse a folder of outputs that is none, or that nothing can be written to.

    Raises:
        WriteError: naming the folder, or what is in its place.
    """
    folder = Path(output_dir)
    there = _nearest(folder)
    if not there.is_dir():
        what = "a link without its target" if there.is_symlink() and not there.exists() else "no folder"
        raise WriteError(there, f"is {what}", "a folder for the results is wanted")
    if not os.access(there, os.W_OK | os.X_OK):
        raise WriteError(folder, f"cannot be written ({there} may not be changed)", "a writable folder is wanted")


def check_outputs_of(source: str | Path, output_dir: str | Path, overwrite: bool) -> OutputPaths:
    """Return where the outputs of a scan go, and refuse what would fail or do harm when they are written.

    Raises:
        ExistsError: when an output is there and may not be replaced, or is a folder, a link or another thing that is
            never replaced.
        WriteError: when a name is too long, or the disk is too full.
    """
    paths = OutputPaths.of(source, output_dir)
    files: tuple[Path, ...] = astuple(paths)
    folder = files[0].parent
    _check_names(source, files)
    if folder.is_symlink() or (os.path.lexists(folder) and not folder.is_dir()):
        found = "is a link" if folder.is_symlink() else "is no folder"
        raise ExistsError(folder, found, "a folder, or a free name, is wanted")
    check_output_dir(folder)
    for path in files:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            kind = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "no regular file"
            raise ExistsError(path, f"is {kind}", "a plain file, or a free name, is wanted")
    if not overwrite:
        refuse_existing(files)
    _check_space(source, folder)
    return paths


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that has something in its place."""
    return next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))


def _check_names(source: str | Path, files: Iterable[Path]) -> None:
    limits = []
    there = _nearest(Path(next(iter(files))).parent)
    for name, default in (("PC_NAME_MAX", LONGEST_NAME), ("PC_PATH_MAX", LONGEST_PATH)):
        try:
            limits.append(os.pathconf(there, name))
        except (OSError, ValueError, AttributeError):  # Windows has no pathconf
            limits.append(default)
    longest = max(files, key=lambda path: len(os.fsencode(path)))
    for what, size, limit in (
        ("name", len(os.fsencode(longest.name)), limits[0]),
        ("path", len(os.fsencode(longest.absolute())) + UNFINISHED, limits[1] - 1),
    ):
        if size > limit:
            found = f"found a name whose output {longest.name[-16:]} gets a {what} of {size} bytes"
            raise WriteError(source, found, f"at most {limit} is wanted")


def _check_space(source: str | Path, folder: Path) -> None:
    try:
        voxels = prod(inspect_volume(source).shape)
    except BundleError:  # what is wrong with the scan is said when it is read
        return
    room = available_memory()
    if room is not None and voxels > room:  # so is that it does not fit in memory
        return
    needed = voxels // VOXELS_PER_BYTE + PICTURE_BYTES
    free = shutil.disk_usage(_nearest(folder)).free
    if free < needed:
        found = f"found {free / 1e6:.1f} MB free for the results of {source}"
        raise WriteError(folder, found, f"{needed / 1e6:.1f} MB is wanted")
