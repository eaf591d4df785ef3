"""The table of structures: network channel, code in label files, name and colour."""

from __future__ import annotations

import colorsys
import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DEFAULT_TABLE = Path(__file__).resolve().parents[1] / "configs" / "labels.tsv"
COLUMNS = ("channel", "code", "name", "red", "green", "blue")
BACKGROUND = "Background"
MAX_CODE = int(np.iinfo(np.int16).max)
"""Label maps are written as int16."""
MAX_CHANNELS = 255
"""Channels are kept as uint8, and 255 stands for none."""
GOLDEN_RATIO = 0.618034
"""Steps of this length round the colour circle never come close to one another."""


@dataclass(frozen=True)
class Label:
    """One structure: its ``channel`` in the logits, ``code`` in label files, ``name`` and 8-bit ``colour``."""

    channel: int
    code: int
    name: str
    colour: tuple[int, int, int]


def read_labels(path: str | Path = DEFAULT_TABLE) -> list[Label]:
    """Read a label table, background first, ordered by channel.

    Args:
        path: one of

            - a tab-separated file with the columns channel, code, name, red, green, blue, as :func:`write_labels`
              writes it;
            - a BIDS ``dseg.tsv`` with the columns index and name;
            - a ``dataset.json`` as the Medical Segmentation Decathlon (``"0": "background"``) or nnU-Net v2
              (``"background": 0``) has it.

            In the last two, channels follow the codes and colours are made up, see :func:`make_labels`.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is none of these, the channels are not 0, 1, 2, ... or a code appears twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; a label table is wanted.")
    if path.suffix.lower() == ".json":
        return make_labels(_dataset_json_names(path), path)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            columns, rows = list(reader.fieldnames or []), list(reader)
        labels = [_label(row) for row in rows] if set(COLUMNS) <= set(columns) else None
        names = [(int(row["index"]), row["name"]) for row in rows] if {"index", "name"} <= set(columns) else None
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a table ({error}).") from error
    if labels is not None:
        return _checked(labels, path)
    if names is not None:
        return make_labels(_unique(names, path), path)
    raise ValueError(f"{path}: found the columns {columns}; {', '.join(COLUMNS)} or index, name are wanted.")


def write_labels(labels: Sequence[Label], path: str | Path, overwrite: bool = False) -> Path:
    """Write a label table that :func:`read_labels` reads; a file that holds the same table already is left as it is.

    Args:
        labels: the structures, background first.
        path: the file, ``.tsv``; missing folders are made.
        overwrite: replace another table.

    Raises:
        FileExistsError: when ``path`` exists with another content and ``overwrite`` is false.
    """
    path = Path(path)
    rows = [COLUMNS, *((label.channel, label.code, label.name, *label.colour) for label in labels)]
    text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    if path.exists():
        if path.read_text(encoding="utf-8") == text:
            return path
        if not overwrite:
            raise FileExistsError(f"{path}: holds another label table; a free name, or overwrite, is wanted.")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def make_labels(names: Mapping[int, str], source: str | Path = "labels") -> list[Label]:
    """Return the table of the structures that are given by code: channels in the order of the codes, colours made up.

    Args:
        names: name of each code; a background is added where code 0 is missing.
        source: where they come from, for messages.

    Raises:
        ValueError: when there is no structure, there are too many, or a code does not fit a label file.
    """
    codes = sorted({0: BACKGROUND, **names})
    wrong = [code for code in codes if not 0 <= code <= MAX_CODE]
    if wrong:
        raise ValueError(f"{source}: found the codes {wrong}; 0 to {MAX_CODE} are wanted.")
    if not 2 <= len(codes) <= MAX_CHANNELS:
        raise ValueError(f"{source}: found {len(codes) - 1} structures; 1 to {MAX_CHANNELS - 1} are wanted.")
    return [
        Label(channel, code, " ".join(str(names.get(code, BACKGROUND)).split()), distinct_colour(channel))
        for channel, code in enumerate(codes)
    ]


def distinct_colour(channel: int) -> tuple[int, int, int]:
    """Return a colour for a channel, 8-bit red, green and blue: black for 0, then hues far apart."""
    if channel == 0:
        return (0, 0, 0)
    saturation, value = ((0.85, 1.0), (0.5, 1.0), (0.85, 0.7))[channel // 12 % 3]
    red, green, blue = colorsys.hsv_to_rgb(channel * GOLDEN_RATIO % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def channel_codes(labels: list[Label]) -> np.ndarray:
    """Return the code of each channel, int16, shape (channels,): ``codes[channel_map]`` is a label map."""
    return np.array([label.code for label in labels], dtype=np.int16)


def mirrored_channels(labels: list[Label]) -> list[int]:
    """Return for each channel the channel of the structure on the other side (itself on the midline)."""
    by_name = {label.name: label.channel for label in labels}
    swapped = [
        label.name.replace("Left-", "Right-").replace("Right-", "Left-", "Right-" in label.name) for label in labels
    ]
    return [by_name.get(name, label.channel) for name, label in zip(swapped, labels, strict=True)]


def _label(row: Mapping[str, str]) -> Label:
    colour = (int(row["red"]), int(row["green"]), int(row["blue"]))
    return Label(int(row["channel"]), int(row["code"]), row["name"], colour)


def _checked(labels: list[Label], path: Path) -> list[Label]:
    if [label.channel for label in labels] != list(range(len(labels))):
        raise ValueError(f"{path}: channels must be 0, 1, 2, ..., found {[label.channel for label in labels]}.")
    if len({label.code for label in labels}) != len(labels):
        raise ValueError(f"{path}: every code must appear once.")
    return labels


def _unique(pairs: Sequence[tuple[int, str]], path: Path) -> dict[int, str]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError(f"{path}: every code must appear once.")
    return names


def _dataset_json_names(path: Path) -> dict[int, str]:
    """Return the name of each code in the ``labels`` of a ``dataset.json``."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}).") from error
    entries = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise ValueError(f"{path}: found no labels; an object such as {{'0': 'background', '1': 'name'}} is wanted.")
    if all(isinstance(value, str) and key.isdecimal() for key, value in entries.items()):
        return _unique([(int(key), value) for key, value in entries.items()], path)
    if all(type(value) is int for value in entries.values()):
        return _unique([(value, key) for key, value in entries.items()], path)
    raise ValueError(f"{path}: found the labels {entries}; one code and one name for each is wanted.")
