"""Structures made of several codes of a data set: merged, renamed, or left out; and voxels that nobody labelled.

``{"Hippocampus": [1, 2], "Rest": [3]}`` makes two structures. A structure has the smallest of its codes in label files,
by which channels are ordered, and a code of no group is background.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.errors import OptionError
from bundle.labels import IGNORE, Label, make_labels

Groups = Mapping[str, Sequence[int]]

IGNORED_CHANNEL = 255
"""Stands for voxels that count neither in the loss nor in a score; no network has as many channels."""


def grouped_table(table: Sequence[Label], groups: Groups | None, ignore: Sequence[int] = ()) -> list[Label]:
    """Return the table of the structures that groups make of a data set's.

    Args:
        table: the data set's structures, background first.
        groups: codes by the structure's name; ``None`` leaves the structures as they are.
        ignore: codes whose voxels do not count; they are no structures.

    Raises:
        OptionError: when a group is empty, or a code is unknown, ignored, background or in two groups.
    """
    known = {label.code: label for label in table if label.channel}
    if groups is None:
        kept = {code: label.name for code, label in known.items() if code not in ignore}
        return list(table) if len(kept) == len(known) else make_labels({0: table[0].name, **kept}, "ignore")
    names: dict[int, str] = {0: table[0].name}
    used: set[int] = set()
    for name, codes in groups.items():
        wrong = sorted(code for code in codes if code not in known or code in used or code in ignore)
        if not codes or wrong:
            found = f"found {', '.join(map(str, wrong))} in {name}" if wrong else f"found no code in {name}"
            wanted = f"codes of the data set, each in one group and none ignored, are wanted ({_shown(known)})"
            raise OptionError("label_groups", found, wanted)
        used.update(codes)
        names[min(codes)] = str(name)
    if len(names) < 2:
        raise OptionError("label_groups", "found no group", "at least one structure is wanted")
    return make_labels(names, "label_groups")


def channels_of(
    table: Sequence[Label], stored: Sequence[Label], groups: Groups | None, ignore: Sequence[int] = ()
) -> dict[int, int]:
    """Return the channel of every code that the label files of a data set may hold.

    Args:
        table: what :func:`grouped_table` returned.
        stored: the data set's structures.
        groups: as there.
        ignore: as there; these have ``IGNORED_CHANNEL``.
    """
    channels = dict.fromkeys((label.code for label in stored), 0) if groups else {}
    channels |= {label.code: label.channel for label in table}
    for codes in (groups or {}).values():
        channels |= dict.fromkeys(codes, channels[min(codes)])
    return channels | dict.fromkeys(ignore, IGNORED_CHANNEL)


def grouped_codes(codes: NDArray[Any], groups: Groups | None) -> NDArray[Any]:
    """Return a label map of a data set in the codes of its groups; codes of no group stay as they are.

    A prediction holds the codes of groups already, and is the same afterwards.
    """
    if not groups:
        return codes
    result = codes.copy()
    for members in groups.values():
        result[np.isin(codes, members)] = min(members)
    return result


def ignored_of(content: Any) -> tuple[int, ...]:
    """Return the code that a ``dataset.json`` of nnU-Net v2 calls ``ignore``: of voxels that nobody labelled."""
    labels = content.get("labels") if isinstance(content, dict) else None
    code = labels.get(IGNORE) if isinstance(labels, dict) else None
    return (code,) if type(code) is int and code > 0 else ()


def stated_ignore(label_table: str | Path) -> tuple[int, ...]:
    """Return the codes that do not count by a label table that is a ``dataset.json``; none by any other."""
    path = Path(label_table)
    return ignored_of(json.loads(path.read_text(encoding="utf-8"))) if path.suffix.lower() == ".json" else ()


def _shown(known: Mapping[int, Label]) -> str:
    shown = [f"{code} {label.name}" for code, label in sorted(known.items())]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")
