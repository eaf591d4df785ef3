"""The uncompressed bytes of a file, from its start to its end, and one line for whatever is wrong with them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from bundle.errors import BundleError, InputError
from bundle.io.names import COMPRESSED_SUFFIXES, volume_suffix
from bundle.io.preflight import COMPLETE_WANTED, GZIP_MAGIC, GZIP_WINDOW, READABLE_WANTED

CHUNK = 1 << 18


@contextmanager
def open_stream(path: Path) -> Iterator[BinaryIO]:
    """Open a file, compressed or not as its name says, as a stream of uncompressed bytes.

    Raises:
        InputError: when whatever the caller reads from the stream is damaged, or does not fit in memory.
    """
    try:
        with within_memory(path), open(path, "rb") as file:
            yield file if volume_suffix(path) not in COMPRESSED_SUFFIXES else _expanded(file)
    except BundleError:
        raise
    except (EOFError, zlib.error) as error:
        raise InputError(path, f"found damaged or truncated gzip data ({error})", COMPLETE_WANTED, "damaged") from error
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
        raise InputError(path, reason, READABLE_WANTED, "unreadable") from error


@contextmanager
def within_memory(path: Path) -> Iterator[None]:
    """Say in one line that there is no memory for a file, should that show only while it is worked on.

    Raises:
        InputError: in place of ``MemoryError``.
    """
    try:
        yield
    except MemoryError as error:
        raise InputError(path, "does not fit in memory", "a smaller volume is wanted", "memory") from error


def skip(stream: BinaryIO, size: int) -> int:
    """Read ``size`` bytes and forget them; return how many there were."""
    left = size
    while left and (block := stream.read(min(left, CHUNK))):
        left -= len(block)
    return size - left


def _expanded(file: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Gunzip(file), CHUNK))


class _Gunzip(io.RawIOBase):
    """Gzip data of one or several members, whose checksums and lengths are compared, with nothing after the last.

    Python's ``gzip`` passes over zeros at the end, and over the checksum of the header.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._pending = b""
        self._members = 0
        self._decoder: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._decoder is not None or self._next_member():
            content = self._decoder.decompress(self._pending, len(buffer))
            self._pending = self._decoder.unconsumed_tail
            if self._decoder.eof:
                self._pending, self._decoder = self._decoder.unused_data, None
            if content:
                buffer[: len(content)] = content
                return len(content)
            if self._decoder is not None and not self._pending and not self._fill():
                raise EOFError("it ends before its last block does")
        return 0

    def _next_member(self) -> bool:
        if len(self._pending) < len(GZIP_MAGIC):
            self._fill()
        if not self._pending and self._members:
            return False
        if not self._pending.startswith(GZIP_MAGIC):
            raise EOFError("bytes that are no gzip data follow its end" if self._members else "it has no gzip header")
        self._members += 1
        self._decoder = zlib.decompressobj(GZIP_WINDOW)
        return True

    def _fill(self) -> bool:
        block = self._file.read(CHUNK)
        self._pending += block
        return bool(block)
