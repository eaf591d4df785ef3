"""The list of scans to segment, and what a folder holds beside them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.errors import InputError, MissingError, OptionError
from bundle.io.names import is_volume, volume_stem, volume_suffix

Entry = str | Path | Mapping[str, Any]

logger = logging.getLogger(__name__)


@dataclass
class Listing:
    """What folders hold.

    Attributes:
        scans: every volume, a folder's in the order of their names.
        left_out: of everything else its path and what it is.
        errors: what should have been a scan and is none: links without their file, folders that cannot be read.
    """

    scans: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    errors: list[InputError] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return a line for each entry that is left out."""
        return [f"left out: {' '.join(path.splitlines())}: {reason}" for path, reason in self.left_out]


def list_inputs(inputs: Iterable[str | Path], recursive: bool = False) -> Listing:
    """Return the scans that files and folders stand for, and what is left out; no folder stops the others.

    Args:
        inputs: a file is taken as it is; of a folder every volume, without hidden files and earlier
            ``*_seg`` output.
        recursive: walk the folders inside folders too; links to folders are not followed.
    """
    listing = Listing()
    for entry in map(str, inputs):
        if not os.path.isdir(entry):
            listing.scans.append(entry)
            continue
        before = len(listing.scans) + len(listing.errors)
        _walk(Path(entry), recursive, listing)
        if len(listing.scans) + len(listing.errors) == before:
            listing.errors.append(MissingError(entry, "found no scan", "at least one .nii or .nii.gz file is wanted"))
    return listing


def find_volumes(dataset_dir: str | Path, recursive: bool = False) -> list[str]:
    """Return the scans of a folder, see :func:`list_inputs`; what is left out is logged.

    Links without their file are among them: it is the reader that refuses them.

    Raises:
        InputError: when the folder is missing or has none.
    """
    folder = Path(dataset_dir)
    if not folder.is_dir():
        raise MissingError(folder, "no such folder", "a folder of .nii or .nii.gz files is wanted")
    listing = list_inputs([folder], recursive)
    broken = [error for error in listing.errors if os.path.islink(error.path)]
    if not listing.scans and not broken:
        raise listing.errors[0]
    for line in (*listing.lines(), *(str(error) for error in listing.errors if error not in broken)):
        logger.warning(line)
    return sorted([*listing.scans, *(error.args[0] for error in broken)])


def datalist_items(datalist: Sequence[Entry] | str | Path | None, dataset_dir: str | Path) -> list[dict[str, Any]]:
    """Return ``[{"image": path}, ...]`` for MONAI's ``Dataset``.

    Args:
        datalist: paths and items; None stands for :func:`find_volumes`. A relative path that does not exist, but does
            in ``dataset_dir``, is taken from there. Items (mappings) are passed on as they are.
        dataset_dir: folder of the scans.

    Raises:
        InputError: when the list is empty, or an item has no ``image``.
    """
    if datalist is None:
        datalist = find_volumes(dataset_dir)
    elif isinstance(datalist, (str, Path)):
        datalist = [datalist]
    if not datalist:
        raise OptionError("datalist", "found no entry", "at least one scan is wanted")
    return [_item(entry, Path(dataset_dir)) for entry in datalist]


def _walk(folder: Path, recursive: bool, listing: Listing) -> None:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        listing.errors.append(InputError(folder, f"cannot be listed ({error.strerror})", code="unreadable"))
        return
    folders = []
    for path in entries:
        if path.name.startswith("."):
            listing.left_out.append((str(path), "hidden"))
        elif not os.path.lexists(path):
            listing.errors.append(InputError(path, "cannot be read", "a folder that may be entered", "unreadable"))
        elif not os.path.exists(path):
            listing.errors.append(_broken_link(path))
        elif os.path.isdir(path):
            folders.append(path)
        elif reason := _reason(path):
            listing.left_out.append((str(path), reason))
        else:
            listing.scans.append(str(path))
    for path in folders:
        if not recursive:
            listing.left_out.append((str(path), "a sub-folder (scripts.segment --recursive walks it)"))
        elif path.is_symlink():
            listing.left_out.append((str(path), "a link to a folder"))
        else:
            _walk(path, recursive, listing)
    if recursive and not entries:
        listing.left_out.append((str(folder), "an empty folder"))


def _reason(path: Path) -> str | None:
    """Return why a file is no scan, ``None`` where it is one."""
    if not is_volume(path):
        return "of another format" if volume_suffix(path) is None else "the voxels of a pair, whose header is taken"
    if volume_stem(path).endswith("_seg"):
        return "an earlier result"
    return None if os.path.isfile(path) else "no regular file"


def _broken_link(path: Path) -> InputError:
    target = os.readlink(path)
    wanted = "git annex get" if ".git/annex/" in target else "its file is wanted"
    return MissingError(path, f"found a link to {target}, which is not there", wanted)


def _item(entry: Entry, dataset_dir: Path) -> dict[str, Any]:
    if isinstance(entry, Mapping):
        if "image" not in entry:
            raise OptionError("datalist", f"found an item with the keys {list(entry)}", "an image is wanted")
        return dict(entry)
    in_dataset = dataset_dir / entry
    return {"image": str(in_dataset if not Path(entry).exists() and in_dataset.exists() else entry)}
