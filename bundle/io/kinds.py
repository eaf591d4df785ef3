"""What a file is by its first bytes, whatever its name says, and what a user can do about it."""

from __future__ import annotations

from codecs import getincrementaldecoder
from pathlib import Path
from typing import NamedTuple

from bundle.io.names import HEADER_SUFFIXES, SUFFIXES, volume_stem, volume_suffix

SNIFFED_BYTES = 1024
VOLUME_WANTED = "a NIfTI file, .nii or .nii.gz, is wanted"
"""The short form; ``.mgz``, ``.mgh`` and ``.hdr`` with ``.img`` are read too."""
MGH_TYPES = range(11)
"""MGH's codes of types; which of them are read, ``mgh.py`` says."""

SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer without its file", "the file that 'git lfs pull' brings is wanted"),
    (b"/annex/objects/", "a git-annex pointer without its file", "the file that 'git annex get' brings is wanted"),
    (b"\x93NUMPY", "a NumPy array (.npy)", VOLUME_WANTED),
    (b"PK\x03\x04", "a ZIP archive (.zip, .npz, .pt)", VOLUME_WANTED),
    (b"BZh", "content compressed by bzip2", "a NIfTI file compressed by gzip, or not at all, is wanted"),
    (b"\xfd7zXZ\x00", "content compressed by xz", "a NIfTI file compressed by gzip, or not at all, is wanted"),
    (b"\x28\xb5\x2f\xfd", "content compressed by zstd", "a NIfTI file compressed by gzip, or not at all, is wanted"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", VOLUME_WANTED),
    (b"Rar!", "a RAR archive", VOLUME_WANTED),
    (b"\x89PNG", "a PNG picture", VOLUME_WANTED),
    (b"\xff\xd8\xff", "a JPEG picture", VOLUME_WANTED),
    (b"GIF8", "a GIF picture", VOLUME_WANTED),
    (b"II*\x00", "a TIFF picture", VOLUME_WANTED),
    (b"MM\x00*", "a TIFF picture", VOLUME_WANTED),
    (b"%PDF", "a PDF document", VOLUME_WANTED),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 or MINC2 file", "a NIfTI file (mnc2nii makes one) is wanted"),
    (b"CDF\x01", "a MINC1 or NetCDF file", "a NIfTI file (mnc2nii makes one) is wanted"),
    (b"NRRD000", "an NRRD file", "a NIfTI file (3D Slicer makes one) is wanted"),
    (b"ObjectType", "a MetaImage header", "a NIfTI file (3D Slicer makes one) is wanted"),
    (b"MATLAB 5.0", "a MATLAB file", VOLUME_WANTED),
    (b"SIMPLE  =", "a FITS file", VOLUME_WANTED),
    (b"\x7fELF", "a program", VOLUME_WANTED),
)
DICOM_WANTED = "a NIfTI file (dcm2niix makes one) is wanted"


class Kind(NamedTuple):
    """``name`` as in "found {name}", and what is wanted in its place; ``is_volume`` for what could be read."""

    name: str
    wanted: str
    is_volume: bool = False


def kind_of(block: bytes) -> Kind | None:
    """Return what content with these first bytes is, or ``None`` for what nobody can tell."""
    for signature, name, wanted in SIGNATURES:
        if block.startswith(signature):
            return Kind(name, wanted)
    return _volume(block) or _binary(block) or _text(block)


def right_name(path: Path, kind: Kind, compressed: bool) -> str | None:
    """Return the name that a NIfTI or MGH file should have, or ``None`` when it has one such."""
    fitting = {"a NIfTI file": (".nii", ".nii.gz"), "an MGH file": (".mgh", ".mgz")}.get(kind.name)
    suffix = volume_suffix(path)
    if fitting is None or suffix == fitting[compressed] or suffix in HEADER_SUFFIXES:
        return None
    stem = volume_stem(path)
    if suffix is None:  # another extension goes, such as .bin
        stem = Path(stem.removesuffix(".gz")).stem
    return f"{stem}{fitting[compressed]}"


def extension_of(path: Path) -> str:
    """Return how a name ends, as a clause, the second extension included where the last says ``.gz``."""
    suffixes = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    extension = volume_suffix(path) or "".join(suffixes)
    return f"named {extension}" if extension else "without an extension"


def known_extensions() -> str:
    """Return the extensions that are read, for messages."""
    return ", ".join(sorted(SUFFIXES))


def _volume(block: bytes) -> Kind | None:
    sizes = {int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")}
    if len(block) >= 348 and 348 in sizes:
        magic = block[344:348]
        if magic == b"ni1\x00":
            return Kind("a NIfTI header", VOLUME_WANTED, True)
        if magic != b"n+1\x00":
            return Kind("an Analyze header", VOLUME_WANTED, True)
        return Kind("a NIfTI file", VOLUME_WANTED, True)
    if len(block) >= 540 and 540 in sizes:
        return Kind("a NIfTI header" if block[4:7] == b"ni2" else "a NIfTI file", VOLUME_WANTED, True)
    is_mgh = len(block) >= 28 and block[:4] == b"\x00\x00\x00\x01" and int.from_bytes(block[20:24], "big") in MGH_TYPES
    return Kind("an MGH file", VOLUME_WANTED, True) if is_mgh else None


def _binary(block: bytes) -> Kind | None:
    if block[128:132] == b"DICM" or block[:4] in (b"\x08\x00\x05\x00", b"\x08\x00\x00\x00"):
        return Kind("a DICOM file", DICOM_WANTED)
    if block[257:262] == b"ustar":
        return Kind("a tar archive", VOLUME_WANTED)
    if block[:1] == b"\x80" and block[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return Kind("a Python pickle", VOLUME_WANTED)
    return None


def _text(block: bytes) -> Kind | None:
    start = block.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return Kind("a web page (HTML)", "the file itself, not the page of its download, is wanted")
    if start.startswith((b"<?xml", b"<gifti")):
        return Kind("an XML file", VOLUME_WANTED)
    if block[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Kind("text", VOLUME_WANTED)
    try:
        text = getincrementaldecoder("utf-8")().decode(block)  # a character may be cut at the end of the block
    except UnicodeDecodeError:
        return None
    is_text = bool(text) and all(character.isprintable() or character in "\t\r\n\f" for character in text)
    return Kind("text", VOLUME_WANTED) if is_text else None
