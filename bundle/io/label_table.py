"""Write a label table; ``bundle.labels`` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle.errors import ExistsError, InputError
from bundle.io.whole import whole_file
from bundle.labels import COLUMNS, OPTIONAL_COLUMNS, Label, read_labels


def write_labels(table: Sequence[Label], path: str | Path, overwrite: bool = False) -> Path:
    """Write a label table that :func:`bundle.labels.read_labels` reads; one that says the same already stays as it is.

    Args:
        table: the structures, background first.
        path: the file, ``.tsv``; missing folders are made.
        overwrite: replace another table.

    Raises:
        ExistsError: when ``path`` holds something else and ``overwrite`` is false.
    """
    path = Path(path)
    if path.exists():
        if _holds(path, table):
            return path
        if not overwrite:
            raise ExistsError(path, "holds another label table")
    rows = [(*COLUMNS, *OPTIONAL_COLUMNS), *(_fields(label) for label in table)]
    try:
        with whole_file(path, overwrite) as unfinished:
            unfinished.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    except ExistsError:
        if not _holds(path, table):  # else another process of the training was faster
            raise
    return path


def _holds(path: Path, table: Sequence[Label]) -> bool:
    """Tell whether a file says what a table does, be it in the fewer columns of version 0.8."""
    try:
        return read_labels(path) == list(table)
    except InputError:
        return False


def _fields(label: Label) -> tuple[str, ...]:
    flag = "true" if label.one_piece else "false"
    return (*map(str, (label.channel, label.code, label.name, *label.colour)), label.side, label.region, flag)
