"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to, which takes the place of ``path`` only once the block ends without an error.

    Raises:
        FileExistsError: when the file exists and ``overwrite`` is false; nothing is written then.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target}: exists already; pass overwrite=True to replace it.")
    # In the same folder, since os.replace cannot cross file systems.
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
