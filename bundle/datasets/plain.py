"""Pairs of files in one folder: ``NAME_T1.nii.gz`` with ``NAME_labels.nii.gz``."""

from __future__ import annotations

from pathlib import Path

IMAGE_SUFFIX, LABEL_SUFFIX = "_T1.nii.gz", "_labels.nii.gz"


def find_pairs(dataset_dir: str | Path) -> list[dict[str, str]]:
    """Pair ``NAME_T1.nii.gz`` with ``NAME_labels.nii.gz`` in a folder.

    Raises:
        FileNotFoundError: when there is no image, or an image has no labels.
    """
    images = sorted(Path(dataset_dir).glob(f"*{IMAGE_SUFFIX}"))
    if not images:
        raise FileNotFoundError(f"{dataset_dir}: no *{IMAGE_SUFFIX} found; pairs with *{LABEL_SUFFIX} are wanted.")
    pairs = [{"image": str(path), "label": str(path).replace(IMAGE_SUFFIX, LABEL_SUFFIX)} for path in images]
    for pair in pairs:
        if not Path(pair["label"]).is_file():
            raise FileNotFoundError(f"{pair['label']}: not found; every image needs its labels.")
    return pairs
