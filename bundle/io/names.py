"""Names of volume files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

NIFTI_SUFFIXES = (".nii.gz", ".nii")
MGH_SUFFIXES = (".mgz", ".mgh")
HEADER_SUFFIXES, IMAGE_SUFFIXES = (".hdr.gz", ".hdr"), (".img.gz", ".img")
SUFFIXES = (*NIFTI_SUFFIXES, *MGH_SUFFIXES, *HEADER_SUFFIXES, *IMAGE_SUFFIXES)
"""All that is read; label maps are written under the first two."""
COMPRESSED_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix.endswith((".gz", ".mgz")))


def volume_suffix(path: str | Path) -> str | None:
    """Return one of ``SUFFIXES``, whatever the case in the name, or None for any other file."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def volume_stem(path: str | Path) -> str:
    """Return the file name without its suffix, such as ``.nii.gz``."""
    name = Path(path).name
    return name[: len(name) - len(volume_suffix(name) or "")]


def printable(name: str) -> str:
    """Return a name as one line that any font can set: what is no character, or a control, becomes U+FFFD."""
    return "".join(character if character.isprintable() else "\ufffd" for character in name)


def shown_id(name: str) -> str:
    """Return the id of a scan as pages have it, by which its marks are known."""
    return " ".join(printable(name).split())


def header_and_image(path: str | Path) -> tuple[Path, Path]:
    """Return the files that hold the header and the voxels: twice ``path``, but for one half of a .hdr/.img pair.

    The other half has the same stem, and is compressed if this one is; ``.HDR`` goes with ``.IMG``.
    """
    path, suffix = Path(path), volume_suffix(path)
    if suffix in HEADER_SUFFIXES:
        return path, _other_half(path, suffix, "img")
    if suffix in IMAGE_SUFFIXES:
        return _other_half(path, suffix, "hdr"), path
    return path, path


def is_volume(path: str | Path) -> bool:
    """Tell whether a name is that of a volume; of a pair that is complete, it is the header's."""
    header, image = header_and_image(path)
    is_image_of_pair = header != image and image == Path(path) and header.is_file()
    return volume_suffix(path) is not None and not is_image_of_pair


def output_path(source: str | Path, output_dir: str | Path, postfix: str = "seg") -> Path:
    """Return ``output_dir/<stem>/<stem>_<postfix>.nii.gz``, where MONAI's ``SaveImaged`` would put it."""
    stem = volume_stem(source)
    return Path(output_dir) / stem / (f"{stem}_{postfix}.nii.gz" if postfix else f"{stem}.nii.gz")


def _other_half(path: Path, suffix: str, extension: str) -> Path:
    candidates = list(_spellings(path, suffix, extension))
    return next((candidate for candidate in candidates if candidate.is_file()), candidates[0])


def _spellings(path: Path, suffix: str, extension: str) -> Iterator[Path]:
    """Yield the other half's name in the case of this one, then in lower case, then in upper case."""
    written = path.name[len(path.name) - len(suffix) :]
    stem, rest = volume_stem(path), written[4:]
    own_case = extension.upper() if written[1:4].isupper() else extension
    for spelling in (own_case, extension, extension.upper()):
        yield path.with_name(f"{stem}.{spelling}{rest}")
