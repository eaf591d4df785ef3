"""The table of structures: network channel, code in label files, name, colour, side, region, one piece or not.

A ``label_table`` is the path of such a table, a ``table`` the list of its labels, a ``label_map`` an array of codes.
"""

from __future__ import annotations

import colorsys
import csv
import functools
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from bundle.errors import InputError, MissingError, OptionError

DEFAULT_TABLE = Path(__file__).resolve().parents[1] / "configs" / "labels.tsv"
COLUMNS = ("channel", "code", "name", "red", "green", "blue")
OPTIONAL_COLUMNS = ("side", "region", "one_piece")
BACKGROUND = "Background"
IGNORE = "ignore"
"""What nnU-Net v2 calls the code of voxels that nobody labelled, which is no structure."""
MAX_CODE = int(np.iinfo(np.int16).max)
"""Label maps are written as int16."""
MAX_CHANNELS = 255
"""Of a training, whose samples keep channels as uint8, where 255 stands for none; others have as many as codes."""
GOLDEN_RATIO = 0.618034
"""Steps of this length round the colour circle never come close to one another."""
SCATTERED_CODES = (0, 5, 24, 44)
"""FreeSurfer codes that are of several pieces where a table does not say: background, inferior horns, CSF."""
FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
SIDES = {"left": "left", "lh": "left", "l": "left", "right": "right", "rh": "right", "r": "right", "": ""}
FROM_NAME = "from the name"

# What parts the words of a name; a letter alone is a side only at one end of a name (and no vertebra: L_1).
GAP = r"[\s_.,:/()\[\]-]"
SIDE_SPELLINGS = (
    re.compile(rf"(?i:(?<![^\W_])(left|right|lh|rh)(?![^\W_])){GAP}*"),  # Left-X, lh.x, ctx-rh-x, X (left)
    re.compile(r"^([Ll]eft|[Rr]ight)(?=[A-Z])|(?<=[a-z])(Left|Right)$"),  # LeftX, xRight
    re.compile(rf"(?i:^(l|r){GAP}+(?=.*[^\W\d_])|(?<=[^\W_]){GAP}+(l|r){GAP}*$)"),  # L_X, X-R, X (L)
)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Label:
    """One structure.

    Attributes:
        channel: its place in the logits.
        code: its number in label files.
        name: its name.
        colour: red, green and blue, 8 bit.
        side: ``"left"``, ``"right"``, or ``""`` on the midline; by default what the name says.
        region: the part of the brain, such as ``"cerebral cortex"``; ``""`` where nobody said.
        one_piece: whether it is connected, so that pieces apart from the main one are suspicious.
    """

    channel: int
    code: int
    name: str
    colour: tuple[int, int, int]
    side: str = FROM_NAME
    region: str = ""
    one_piece: bool = True

    def __post_init__(self) -> None:
        if self.side == FROM_NAME:
            object.__setattr__(self, "side", split_side(self.name)[0])

    @property
    def name_without_side(self) -> str:
        """The name that a left and a right structure have in common."""
        return (split_side(self.name)[1] if self.side else "") or self.name


def split_side(name: str) -> tuple[str, str]:
    """Return the side that a name speaks of, and the name without it: ``("left", "ctx-x")`` for ``"ctx-lh-x"``.

    No side, ``""``, is found in a name that speaks of none or of both.
    """
    for spelling in SIDE_SPELLINGS:
        sides = {SIDES[next(filter(None, found.groups())).lower()] for found in spelling.finditer(name)}
        if len(sides) == 1:
            return sides.pop(), re.sub(rf"^{GAP}+|{GAP}+$", "", spelling.sub("", name))
        if sides:
            break
    return "", name


def read_labels(path: str | Path = DEFAULT_TABLE) -> list[Label]:
    """Read a label table, background first, ordered by channel.

    Args:
        path: one of

            - a tab-separated file with the columns channel, code, name, red, green, blue, and possibly side, region,
              one_piece, as :func:`bundle.io.write_labels` writes it;
            - a BIDS ``dseg.tsv`` with the columns index and name;
            - a ``dataset.json`` as the Medical Segmentation Decathlon (``"0": "background"``) or nnU-Net v2
              (``"background": 0``) has it.

            In the last two, channels follow the codes and colours are made up, see :func:`make_labels`. Sides that no
            column gives are those that the names speak of.

    Raises:
        MissingError: when there is no such file.
        InputError: when the file is none of these, the channels are not 0, 1, 2, ... or a code appears twice.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(path, "not found", "a label table is wanted")
    if path.suffix.lower() == ".json":
        return make_labels(_dataset_json_names(path), path)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            columns, rows = list(reader.fieldnames or []), list(reader)
        table = [_label(row) for row in rows] if set(COLUMNS) <= set(columns) else None
        names = [(int(row["index"]), row["name"]) for row in rows] if {"index", "name"} <= set(columns) else None
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise _unusable(path, f"cannot be read as a table ({error})") from error
    if table is not None:
        return _checked(table, path)
    if names is not None:
        return make_labels(_unique(names, path), path)
    raise _unusable(path, f"found the columns {columns}", f"{', '.join(COLUMNS)} or index, name are wanted")


def make_labels(names: Mapping[int, str], source: str | Path = "labels") -> list[Label]:
    """Return the table of the structures that are given by code: channels in the order of the codes, colours made up.

    Args:
        names: name of each code; a background is added where code 0 is missing.
        source: where they come from, for messages.

    Raises:
        InputError: when there is no structure, or a code does not fit a label file.
    """
    codes = sorted({0: BACKGROUND, **names})
    wrong = [code for code in codes if not 0 <= code <= MAX_CODE]
    if wrong:
        raise _unusable(source, f"found the codes {wrong}", f"0 to {MAX_CODE} are wanted")
    if len(codes) < 2:
        raise _unusable(source, "found 0 structures", "1 at least is wanted")
    texts = (" ".join(str(names.get(code, BACKGROUND)).split()) for code in codes)
    return [
        Label(channel, code, text, distinct_colour(channel), one_piece=code not in SCATTERED_CODES)
        for channel, (code, text) in enumerate(zip(codes, texts, strict=True))
    ]


def check_trainable(table: Sequence[Label], source: str | Path = "label_table") -> None:
    """Raise an ``InputError`` for a table of more channels than the samples of a training tell apart."""
    if len(table) > MAX_CHANNELS:
        raise _unusable(source, f"found {len(table) - 1} structures", f"1 to {MAX_CHANNELS - 1} are wanted to train on")


def distinct_colour(channel: int) -> tuple[int, int, int]:
    """Return a colour for a channel, 8-bit red, green and blue: black for 0, then hues far apart."""
    if channel == 0:
        return (0, 0, 0)
    saturation, value = ((0.85, 1.0), (0.5, 1.0), (0.85, 0.7))[channel // 12 % 3]
    red, green, blue = colorsys.hsv_to_rgb(channel * GOLDEN_RATIO % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def channel_codes(table: Sequence[Label]) -> NDArray[np.int16]:
    """Return the code of each channel, int16, shape (channels,): ``codes[channel_map]`` is a label map."""
    return np.array([label.code for label in table], dtype=np.int16)


def side_partners(table: Sequence[Label]) -> list[int]:
    """Return for each channel the channel of the structure on the other side, or its own where there is not just one.

    Two structures are partners when one is left, one is right, and their names without the side are equal.
    """
    by_key: dict[tuple[str, str], list[int]] = {}
    for label in table:
        by_key.setdefault((label.side, _pair_name(label)), []).append(label.channel)

    def partner(label: Label) -> int:
        other = {"left": "right", "right": "left"}.get(label.side, "")
        pair = [by_key.get((side, _pair_name(label)), []) for side in (label.side, other)]
        return pair[1][0] if label.side and len(pair[0]) == len(pair[1]) == 1 else label.channel

    return [partner(label) for label in table]


def mirrored_channels(table: Sequence[Label], source: str | Path = "label_table") -> list[int]:
    """Return for each channel the channel of the structure on the other side (itself on the midline).

    Args:
        table: the structures.
        source: where they come from, for messages.

    Raises:
        OptionError: when a structure has a side and no partner, or several: a mirror image has no labels then.
    """
    partners = side_partners(table)
    alone = [label.name for label in table if label.side and partners[label.channel] == label.channel]
    if alone:
        found = f"found {', '.join(alone[:4])}{', ...' if len(alone) > 4 else ''} without just one partner"
        wanted = "mirroring wants a left and a right structure of one name each, or a column side that tells"
        raise OptionError(source, found, wanted, "labels")
    return partners


def renamed_keywords(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a ``_target_`` take a keyword by the name that it had until version 0.8, which configs of that time hold.

    All such names stand where this decorator is used: ``labels`` was the path of a table in some, a list in others.

    Args:
        new_names: the keyword's name by its old one, as in ``labels="label_table"``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in new_names.keys() & kwargs.keys():
                message = f"{function.__qualname__}: {old} is called {new_names[old]} now"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                if new_names[old] in kwargs:
                    raise TypeError(f"{message}, got both.")
                kwargs[new_names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate


def _pair_name(label: Label) -> str:
    """Return a name without its side, whatever its case and whatever parts its words."""
    return " ".join(re.split(rf"{GAP}+", (split_side(label.name)[1] if label.side else label.name).lower()))


def _label(row: Mapping[str, str]) -> Label:
    colour = (int(row["red"]), int(row["green"]), int(row["blue"]))
    code, side, one_piece = int(row["code"]), row.get("side"), row.get("one_piece", "")
    if side is not None and side.strip().lower() not in SIDES:
        raise ValueError(f"side {side!r} is none of left, right and nothing")
    if one_piece.strip().lower() not in {*FLAGS, ""}:
        raise ValueError(f"one_piece {one_piece!r} is neither true nor false")
    return Label(
        channel=int(row["channel"]),
        code=code,
        name=row["name"],
        colour=colour,
        side=FROM_NAME if side is None else SIDES[side.strip().lower()],
        region=row.get("region", "").strip(),
        one_piece=FLAGS.get(one_piece.strip().lower(), code not in SCATTERED_CODES),
    )


def _checked(table: list[Label], path: Path) -> list[Label]:
    channels = [label.channel for label in table]
    if channels != list(range(len(table))):
        raise _unusable(path, f"channels must be 0, 1, 2, ..., found {channels}")
    if len({label.code for label in table}) != len(table):
        raise _unusable(path, "every code must appear once")
    return table


def _unique(pairs: Sequence[tuple[int, str]], path: Path) -> dict[int, str]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise _unusable(path, "every code must appear once")
    return names


def _dataset_json_names(path: Path) -> dict[int, str]:
    """Return the name of each code in the ``labels`` of a ``dataset.json``."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unusable(path, f"cannot be read as JSON ({error})") from error
    entries = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise _unusable(path, "found no labels", "an object such as {'0': 'background', '1': 'name'} is wanted")
    if all(isinstance(value, str) and key.isdecimal() for key, value in entries.items()):
        return _unique([(int(key), value) for key, value in entries.items()], path)
    if all(type(value) is int for value in entries.values()):
        return _unique([(value, key) for key, value in entries.items() if key != IGNORE], path)
    raise _unusable(path, f"found the labels {entries}", "one code and one name for each is wanted")


def _unusable(path: str | Path, found: str, wanted: str = "") -> InputError:
    return InputError(path, found, wanted, "labels")
