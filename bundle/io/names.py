"""Names of volume files."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".nii.gz", ".nii")


def volume_suffix(path: str | Path) -> str | None:
    """Return ``.nii.gz`` or ``.nii``, whatever the case in the name, or None for any other file."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def volume_stem(path: str | Path) -> str:
    """Return the file name without its ``.nii`` or ``.nii.gz``."""
    name = Path(path).name
    return name[: len(name) - len(volume_suffix(name) or "")]


def printable(name: str) -> str:
    """Return a name as one line that any font can set: what is no character, or a control, becomes U+FFFD."""
    return "".join(character if character.isprintable() else "\ufffd" for character in name)


def output_path(source: str | Path, output_dir: str | Path, postfix: str = "seg") -> Path:
    """Return ``output_dir/<stem>/<stem>_<postfix>.nii.gz``, where MONAI's ``SaveImaged`` would put it."""
    stem = volume_stem(source)
    return Path(output_dir) / stem / (f"{stem}_{postfix}.nii.gz" if postfix else f"{stem}.nii.gz")
