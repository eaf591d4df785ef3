"""Large arrays that are written once and seldom read: beyond some size they lie in a temporary file without a name.

The file goes with the array, also where the process is killed. Its folder is that of ``TMPDIR``.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bundle.errors import WriteError

IN_MEMORY = 1 << 27
"""Bytes up to which an array stays in memory: those of a head do."""


def scratch_array(shape: tuple[int, ...], dtype: DTypeLike, in_memory: int = IN_MEMORY) -> NDArray[Any]:
    """Return an array of zeros.

    Args:
        shape: its shape.
        dtype: its type.
        in_memory: bytes up to which it stays in memory.

    Raises:
        WriteError: when there is no room on the disk.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= in_memory:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk would kill the process later on
        except OSError as error:
            folder = tempfile.gettempdir()
            found = f"found no room for {size / 1e9:.1f} GB of a large scan ({error.strerror})"
            raise WriteError(folder, found, "free space, or another TMPDIR, is wanted") from error
        pages = mmap.mmap(file.fileno(), size)
    return np.frombuffer(pages, dtype).reshape(shape)


def out_of_memory(array: NDArray[Any]) -> None:
    """Let the pages of an array that lies in a file go from memory; they are read again where they are asked for."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    pages = base.obj if isinstance(base, memoryview) else base
    if isinstance(pages, mmap.mmap):
        pages.madvise(mmap.MADV_DONTNEED)
