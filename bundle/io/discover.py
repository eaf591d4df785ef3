"""The list of scans to segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.errors import InputError, MissingError, OptionError
from bundle.io.names import is_volume, volume_stem

Entry = str | Path | Mapping[str, Any]


def find_volumes(dataset_dir: str | Path) -> list[str]:
    """Return every volume directly in a folder, sorted, without hidden files and earlier ``*_seg`` output.

    A .hdr/.img pair counts once, by its header.

    Raises:
        InputError: when the folder is missing or has none.
    """
    folder = Path(dataset_dir)
    if not folder.is_dir():
        raise MissingError(folder, "no such folder", "a folder of .nii or .nii.gz files is wanted")
    volumes = sorted(str(path) for path in folder.iterdir() if _is_scan(path))
    if not volumes:
        raise MissingError(folder, "found no scan", "at least one .nii or .nii.gz file is wanted")
    return volumes


def datalist_items(datalist: Sequence[Entry] | str | Path | None, dataset_dir: str | Path) -> list[dict[str, Any]]:
    """Return ``[{"image": path}, ...]`` for MONAI's ``Dataset``.

    Args:
        datalist: paths and items; None stands for :func:`find_volumes`. A relative path that does not exist, but does
            in ``dataset_dir``, is taken from there. Items (mappings) are passed on as they are.
        dataset_dir: folder of the scans.

    Raises:
        InputError: when the list is empty, an item has no ``image``, or two scans would be written to one output.
    """
    if datalist is None:
        datalist = find_volumes(dataset_dir)
    elif isinstance(datalist, (str, Path)):
        datalist = [datalist]
    if not datalist:
        raise OptionError("datalist", "found no entry", "at least one scan is wanted")
    items = [_item(entry, Path(dataset_dir)) for entry in datalist]
    _check_outputs_differ(items)
    return items


def _is_scan(path: Path) -> bool:
    name_fits = is_volume(path) and not volume_stem(path).endswith("_seg")
    return name_fits and not path.name.startswith(".") and path.is_file()


def _item(entry: Entry, dataset_dir: Path) -> dict[str, Any]:
    if isinstance(entry, Mapping):
        if "image" not in entry:
            raise OptionError("datalist", f"found an item with the keys {list(entry)}", "an image is wanted")
        return dict(entry)
    in_dataset = dataset_dir / entry
    return {"image": str(in_dataset if not Path(entry).exists() and in_dataset.exists() else entry)}


def _check_outputs_differ(items: list[dict[str, Any]]) -> None:
    first: dict[str, str] = {}
    for path in (str(item["image"]) for item in items):
        stem = volume_stem(path)
        if stem in first:
            found = f"found the name {stem} in {first[stem]} too"
            raise InputError(path, found, "one output for each scan is wanted", "pairs")
        first[stem] = path
