"""The table of tissues that images are drawn from: what each code of a label map looks like, and what it belongs to."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from bundle.errors import InputError, MissingError
from bundle.labels import split_side

DEFAULT_TISSUES = Path(__file__).resolve().parents[2] / "configs" / "tissues.tsv"
COLUMNS = ("code", "name", "tissue", "part_of", "kind", "role", "compact", "mean", "sd")
KINDS = ("grey", "white", "fluid")
"""Tissues that are alike in a scan: where they touch, intensity alone does not part them."""
ROLES = ("white matter", "cortex", "csf", "ventricle", "scalp", "bone", "vessel")
OTHER = "*"
"""Code of the row that stands for all codes without one of their own."""
FLAGS = {"true": True, "false": False}
FIRST_HEAD_CODE = 500
"""Codes from here on are tissues outside the brain."""


@dataclass(frozen=True)
class Tissue:
    """One row of the table.

    Attributes:
        name: its name; sides are told from it, see :func:`bundle.labels.split_side`.
        source: code whose kind, mean and spread it has, drawn once for both: its own, or the left side's.
        part_of: code of the structure that it is scored as, such as the white matter that a lesion lies in.
        kind: one of ``KINDS``, or ``""``.
        role: one of ``ROLES``, or ``""``.
        compact: whether its centre means anything; not so where it is large or thin.
        mean: intensity, on a scale where white matter is near 0.8 and fluid near 0.2.
        sd: standard deviation of the mean between images.
    """

    name: str
    source: int
    part_of: int
    kind: str
    role: str
    compact: bool
    mean: float
    sd: float


@dataclass(frozen=True)
class TissueTable:
    """Tissues by code, and what holds for every other code."""

    rows: Mapping[int, Tissue]
    other: Tissue

    def __getitem__(self, code: int) -> Tissue:
        """Return the tissue of a code, listed or not."""
        if code in self.rows:
            return self.rows[code]
        other = self.other
        return Tissue(other.name, code, code, other.kind, other.role, other.compact, other.mean, other.sd)

    def with_role(self, role: str) -> list[int]:
        """Return the codes of a role, ascending."""
        return sorted(code for code, tissue in self.rows.items() if tissue.role == role)

    def ribbons(self) -> list[tuple[int, int]]:
        """Return the codes of white matter and cortex of each side, left first."""
        sides = [{split_side(self.rows[code].name)[0]: code for code in self.with_role(role)} for role in ROLES[:2]]
        return [(sides[0][side], sides[1][side]) for side in sorted(sides[0].keys() & sides[1].keys())]

    def is_brain(self, code: int) -> bool:
        """Tell whether a code is brain tissue or ventricle: neither background nor outer fluid nor head."""
        return 0 < code < FIRST_HEAD_CODE and self[code].role != "csf"


def read_tissues(path: str | Path = DEFAULT_TISSUES) -> TissueTable:
    """Read a tissue table.

    Args:
        path: tab-separated, with the columns code, name, tissue, part_of, kind, role, compact, mean, sd. A row that
            names another's code as its ``tissue`` leaves kind, mean and sd to that one; ``part_of`` is a code, or empty
            for the row's own; the row with the code ``*`` stands for all codes without a row.

    Raises:
        MissingError: when there is no such file.
        InputError: when it is no such table; the line names the row.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(path, "not found", "a tissue table is wanted")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            columns, rows = list(reader.fieldnames or []), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"cannot be read as a table ({error})", code="labels") from error
    if not set(COLUMNS) <= set(columns):
        raise InputError(path, f"found the columns {columns}", f"{', '.join(COLUMNS)} are wanted", "labels")
    try:
        return _table(rows)
    except ValueError as error:
        raise InputError(path, str(error), code="labels") from error


def _table(rows: Sequence[Mapping[str, str | None]]) -> TissueTable:
    """Return the checked table.

    Raises:
        ValueError: when a row cannot be used; the message names it.
    """
    texts: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        text = {column: (row[column] or "").strip() for column in COLUMNS}
        if text["code"] != OTHER and not text["code"].isdecimal():
            raise ValueError(f"line {number}: found the code {text['code']!r}; a whole number or {OTHER} is wanted")
        if text["code"] in texts:
            raise ValueError(f"line {number}: found the code {text['code']} again; every code must appear once")
        texts[text["code"]] = text
    if not {OTHER, "0"} <= texts.keys():
        raise ValueError(f"found no row for {OTHER} or for 0; codes without a row, and background, must be described")
    found = {code: _tissue(text, texts) for code, text in texts.items()}
    table = TissueTable({int(code): tissue for code, tissue in found.items() if code != OTHER}, found[OTHER])
    for role in ROLES[:2]:
        sides = [split_side(table.rows[code].name)[0] for code in table.with_role(role)]
        if len(set(sides)) != len(sides):
            raise ValueError(f"found the role {role!r} twice on one side; once is wanted")
    return table


def _tissue(text: Mapping[str, str], texts: Mapping[str, Mapping[str, str]]) -> Tissue:
    code = text["code"]
    for column in ("tissue", "part_of"):
        if text[column] and (text[column] not in texts or text[column] == OTHER):
            raise ValueError(f"code {code}: found the {column} {text[column]!r}; the code of a row is wanted")
    look = texts[text["tissue"]] if text["tissue"] else text
    if look["tissue"]:
        raise ValueError(f"code {code}: found the tissue {text['tissue']!r}, which has another's itself")
    for column, value, known in (("kind", look["kind"], KINDS), ("role", text["role"], ROLES)):
        if value not in ("", *known):
            raise ValueError(f"code {code}: found the {column} {value!r}; one of {', '.join(known)} or none is wanted")
    if text["compact"] not in FLAGS:
        raise ValueError(f"code {code}: found compact {text['compact']!r}; true or false is wanted")
    mean, sd = (_number(look[column], column, code) for column in ("mean", "sd"))
    source, part_of = (int(text[column] or code) if code != OTHER else -1 for column in ("tissue", "part_of"))
    return Tissue(text["name"], source, part_of, look["kind"], text["role"], FLAGS[text["compact"]], mean, sd)


def _number(text: str, column: str, code: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (isfinite(value) and value >= 0):
        raise ValueError(f"code {code}: found the {column} {text!r}; a number of at least 0 is wanted")
    return value
