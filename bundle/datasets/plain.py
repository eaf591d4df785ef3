"""Images and labels that belong together by the names of their files alone: in two folders, or side by side in one."""

from __future__ import annotations

from pathlib import Path

from bundle.datasets.case import Case
from bundle.io.names import SUFFIXES, is_volume, volume_stem

CHANNEL_SUFFIX = "_0000"
"""What nnU-Net adds to the name of a case for its first channel."""
IMAGE_SUFFIX, LABEL_SUFFIX = "_T1", "_labels"


def folder_cases(folder: Path) -> list[Case]:
    """Pair ``imagesTr`` and ``labelsTr`` by name; a missing partner is given as the file that was looked for."""
    images, labels = (_volumes(folder / name) for name in ("imagesTr", "labelsTr"))
    # nnU-Net: CASE_0000.nii.gz belongs to CASE.nii.gz
    images = {stem if stem in labels else stem.removesuffix(CHANNEL_SUFFIX): path for stem, path in images.items()}
    return [
        Case(
            name,
            images.get(name, folder / "imagesTr" / f"{name}{SUFFIXES[0]}"),
            labels.get(name, folder / "labelsTr" / f"{name}{SUFFIXES[0]}"),
            name,
        )
        for name in sorted({*images, *labels})
    ]


def side_by_side_cases(folder: Path) -> list[Case]:
    """Pair ``NAME_T1.nii.gz`` with ``NAME_labels.nii.gz``; labels without an image are passed over."""
    files = _volumes(folder)
    names = sorted(stem.removesuffix(IMAGE_SUFFIX) for stem in files if stem.endswith(IMAGE_SUFFIX))
    looked_for = {name: folder / f"{name}{LABEL_SUFFIX}{SUFFIXES[0]}" for name in names}
    return [
        Case(name, files[name + IMAGE_SUFFIX], files.get(name + LABEL_SUFFIX, looked_for[name]), name) for name in names
    ]


def side_by_side_table(folder: Path) -> Path | None:
    """Return the label table beside the pairs, if there is one: ``labels.tsv`` or ``dseg.tsv``."""
    tables = (folder / name for name in ("labels.tsv", "dseg.tsv"))
    return next((path for path in tables if path.is_file()), None)


def _volumes(folder: Path) -> dict[str, Path]:
    """Return the volumes of a folder by their names without extension."""
    return {
        volume_stem(path): path
        for path in sorted(folder.glob("*"))
        if is_volume(path) and path.is_file() and not path.name.startswith(".")
    }
