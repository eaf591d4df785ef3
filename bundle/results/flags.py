"""Reasons to look twice at a result: each has a code, and the threshold that was passed.

What is flagged is judged by the labels and the scan alone, against ``configs/flags.json``, whose thresholds are
generous: none is passed by the scans that the model was validated on, be they turned, coarse, noisy or shaded
(``tests/bundle/results/test_flags_on_scans.py``). docs/results.md says where each comes from. A result whose label
table does not name the regions of a whole brain is not judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.errors import InputError, MissingError, OptionError
from bundle.labels import Label
from bundle.results.evidence import Evidence
from bundle.results.rules import OTHERS, RULES, Limit
from bundle.results.totals import is_whole_brain

DEFAULT_LIMITS = Path(__file__).resolve().parents[2] / "configs" / "flags.json"
MOST_NAMES = 4
"""Structures that a line names; the record has all of them."""


@dataclass(frozen=True)
class Flag:
    """A reason to look twice.

    Attributes:
        code: its name in records, tables and pictures.
        reason: what it says, as a clause.
        structure: the structure that it is about, ``None`` for the whole scan.
        value: what was found.
        threshold: what it was compared with, in the same unit.
    """

    code: str
    reason: str
    structure: str | None
    value: float
    threshold: float


def read_limits(path: str | Path = DEFAULT_LIMITS, left_out: Sequence[str] = ()) -> dict[str, Limit]:
    """Read the thresholds of the flags, by code; flags that a file leaves out are not looked for.

    Args:
        path: the file.
        left_out: codes of flags that are not looked for either.

    Raises:
        MissingError: when there is no such file.
        InputError: when it is no object of flags, or names one that does not exist.
        OptionError: when one that is left out does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(path, "not found", "thresholds of flags are wanted")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        limits = {code: _limit(code, entry) for code, entry in content.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"cannot be read as thresholds ({error})", "see configs/flags.json") from error
    unknown = sorted(set(limits) - set(RULES))
    if unknown:
        raise InputError(path, f"found the unknown flag {unknown[0]!r}", f"{', '.join(RULES)} are known")
    if unknown := sorted(set(left_out) - set(RULES)):
        raise OptionError("flags_left_out", f"found the unknown flag {unknown[0]!r}", f"{', '.join(RULES)} are known")
    return {code: limit for code, limit in limits.items() if code not in left_out}


def find_flags(evidence: Evidence, limits: Mapping[str, Limit]) -> list[Flag]:
    """Return what is suspicious in a result, in the order of the limits, as far as it is :func:`looked_for`."""
    regions = {label.name: label.region for label in evidence.table}
    flags = []
    for code in looked_for(evidence.table, limits):
        limit = limits[code]
        for structure, value in RULES[code].values(evidence, limit):
            threshold = limit.threshold(regions.get(structure or "", OTHERS))
            if threshold is None:
                continue
            if value < threshold if RULES[code].flags_below else abs(value) > threshold:
                flags.append(Flag(code, limit.reason, structure, round(value, 4), threshold))
    return flags


def looked_for(table: Sequence[Label], limits: Mapping[str, Limit]) -> list[str]:
    """Return the codes of the flags that are looked for: none when a table is not that of a whole brain."""
    return list(limits) if is_whole_brain(table) else []


def flags_by_structure(flags: Sequence[Flag], table: Sequence[Label]) -> dict[int, list[str]]:
    """Return the codes of the flags of each structure, by its code; those of the whole scan are flags of each."""
    return {
        label.code: list(dict.fromkeys(flag.code for flag in flags if flag.structure in (None, label.name)))
        for label in table[1:]
    }


def flag_lines(flags: Sequence[Flag]) -> list[str]:
    """Return a line for each code: the code, its reason, and the first of the structures that it is about."""
    structures: dict[tuple[str, str], list[str]] = {}
    for flag in flags:
        structures.setdefault((flag.code, flag.reason), []).extend([flag.structure] if flag.structure else [])
    lines = []
    for (code, reason), names in structures.items():
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        lines.append(f"{code}: {reason}" + (f" ({', '.join(names[:MOST_NAMES])}{more})" if names else ""))
    return lines


def _limit(code: str, entry: Mapping[str, Any]) -> Limit:
    threshold = entry["threshold"]
    by_region = threshold if isinstance(threshold, dict) else {OTHERS: threshold}
    thresholds = {str(region): float(value) for region, value in by_region.items()}
    smallest = float(entry.get("smallest_mm3", 0.0))
    return Limit(code, str(entry["reason"]), thresholds, tuple(entry.get("exempt", ())), smallest)
