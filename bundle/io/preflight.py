"""Whether a file can be opened at all, and is what its name says: looked at before anything is allocated.

Every refusal names the cure. The corpus in ``tests/inputs`` holds them, ``docs/inputs.md`` lists them.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from pathlib import Path

from bundle.errors import InputError, MissingError
from bundle.io.kinds import SNIFFED_BYTES, VOLUME_WANTED, Kind, extension_of, kind_of, known_extensions, right_name
from bundle.io.names import COMPRESSED_SUFFIXES, header_and_image, volume_suffix

COMPLETE_WANTED = "a complete NIfTI file is wanted"
READABLE_WANTED = "a readable file is wanted"
COMPRESSED_ONCE_WANTED = "a NIfTI file compressed once ('gunzip' takes one off) is wanted"
GZIP_MAGIC = b"\x1f\x8b"
GZIP_WINDOW = 31
"""zlib's window for gzip: the header, the checksum and the length are compared too."""
NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_file(path: Path) -> None:
    """Refuse what is no readable regular file with the content that its name promises.

    Raises:
        InputError: saying what is there instead, and what helps.
    """
    _check_regular(path, _state(path))
    block = _first_bytes(path)
    compressed = block.startswith(GZIP_MAGIC)
    if compressed:
        block = _expanded(block)
        if block.startswith(GZIP_MAGIC):
            raise InputError(path, "found gzip data inside gzip data: compressed twice", COMPRESSED_ONCE_WANTED)
    _check_name(path, kind_of(block[:SNIFFED_BYTES]), compressed)


def check_pair(path: Path) -> tuple[Path, Path]:
    """Return the files with the header and with the voxels, both there; twice the same file but for a .hdr/.img pair.

    Raises:
        InputError: when one cannot be used.
    """
    header, image = header_and_image(path)
    if header == image:
        check_file(path)
        return path, path
    _state(path)  # a half that is named and missing is a missing file, not a pair without its other half
    for half, other in ((header, image), (image, header)):
        if not os.path.lexists(half):
            found = f"found no {half.name} beside it"
            raise MissingError(other, found, "both files of a .hdr/.img pair are wanted")
    check_file(header)
    _check_regular(image, _state(image))
    compressed = _first_bytes(image).startswith(GZIP_MAGIC)
    if compressed != (volume_suffix(image) in COMPRESSED_SUFFIXES):
        found, name = ("compressed", f"{image.name}.gz") if compressed else ("not compressed", image.name[:-3])
        raise InputError(image, f"found that it is {found}", f"the name {name} is wanted")
    return header, image


def _state(path: Path) -> os.stat_result:
    """Return what ``os.stat`` says, or why it cannot."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        if not path.is_symlink():
            raise MissingError(path, "no such file", "an existing file is wanted") from error
        target = os.readlink(path)
        if "annex/objects/" in target:
            found = "no such file: a git-annex link without its file"
            raise MissingError(path, found, "the file that 'git annex get' brings is wanted") from error
        found = f"no such file: a link to {target}, which is not there"
        raise MissingError(path, found, "an existing file is wanted") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        if getattr(error, "errno", None) == errno.ELOOP:
            raise _unreadable(path, "found a link that leads to itself", error) from error
        raise _unreadable(path, f"cannot be read ({getattr(error, 'strerror', None) or error})", error) from error


def _check_regular(path: Path, state: os.stat_result) -> None:
    for is_kind, name in NO_FILES:
        if is_kind(state.st_mode):
            raise InputError(path, f"found {name}", f"a regular file is wanted: {VOLUME_WANTED}")
    if state.st_size == 0:
        raise InputError(path, "found an empty file", COMPLETE_WANTED, "damaged")


def _first_bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4 * SNIFFED_BYTES)
    except OSError as error:
        raise _unreadable(path, f"cannot be read ({error.strerror or error})", error) from error


def _expanded(block: bytes) -> bytes:
    """Return the first bytes inside gzip data, fewer or none where it is damaged: whoever reads on will say so."""
    try:
        return zlib.decompressobj(GZIP_WINDOW).decompress(block, SNIFFED_BYTES)
    except zlib.error:
        return b""


def _check_name(path: Path, kind: Kind | None, compressed: bool) -> None:
    suffix = volume_suffix(path)
    where = " inside gzip data" if compressed else ""
    if kind is not None and not kind.is_volume:
        raise InputError(path, f"found {kind.name}{where}", kind.wanted)
    if kind is not None and (name := right_name(path, kind, compressed)):
        state = "compressed" if compressed else "not compressed"
        raise InputError(path, f"found {kind.name}, {state}, {extension_of(path)}", f"the name {name} is wanted")
    if suffix is None:
        extensions = f"one of {known_extensions()} is wanted"
        raise InputError(path, f"found a file {extension_of(path)}", f"{VOLUME_WANTED}: {extensions}")
    if compressed != (suffix in COMPRESSED_SUFFIXES):
        found = "compressed content" if compressed else "content that is not compressed, and no NIfTI header,"
        wanted = "a NIfTI file that its name fits, .nii or .nii.gz, is wanted"
        raise InputError(path, f"found {found} {extension_of(path)}", wanted)


def _unreadable(path: Path, found: str, error: BaseException) -> InputError:
    return InputError(path, found, READABLE_WANTED, "unreadable")
