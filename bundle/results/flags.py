"""Reasons to look twice at a result: each has a code, and the threshold that was passed.

What is flagged is judged by the labels and the scan alone, against ``configs/flags.json``, whose thresholds are
generous: none is passed by the scans that the model was validated on, be they turned, coarse, noisy or shaded
(``tests/bundle/results/test_flags_on_scans.py``). docs/results.md says where each comes from. A result whose label
table does not name the regions of a whole brain is not judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bundle.errors import InputError, MissingError
from bundle.labels import Label, side_partners
from bundle.results.evidence import Evidence
from bundle.results.totals import CEREBELLUM, CORTEX, STEM, VENTRICLES, WHITE, is_whole_brain

DEFAULT_LIMITS = Path(__file__).resolve().parents[2] / "configs" / "flags.json"
OTHERS = "*"
"""In place of a region: all that are not named."""
MOST_NAMES = 4
"""Structures that a line names; the record has all of them."""

Values = Iterator[tuple[str | None, float]]
"""What was measured: name of the structure, ``None`` for the whole scan, and the value."""


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


@dataclass(frozen=True)
class Limit:
    """What the config says of one flag.

    Attributes:
        code: the flag's.
        reason: what it says.
        thresholds: by region; ``"*"`` for all others.
        exempt: names of structures, without their side, that are not judged.
        smallest_mm3: volume below which a structure or piece is not judged.
    """

    code: str
    reason: str
    thresholds: Mapping[str, float]
    exempt: tuple[str, ...] = ()
    smallest_mm3: float = 0.0

    def threshold(self, region: str = OTHERS) -> float | None:
        """Return the threshold for a region, ``None`` where it has none."""
        return self.thresholds.get(region, self.thresholds.get(OTHERS))

    def judged(self, table: Sequence[Label]) -> Iterator[Label]:
        """Yield the structures that are judged."""
        for label in table[1:]:
            if label.name_without_side not in self.exempt and self.threshold(label.region) is not None:
                yield label


def read_limits(path: str | Path = DEFAULT_LIMITS) -> dict[str, Limit]:
    """Read the thresholds of the flags, by code; flags that a file leaves out are not looked for.

    Raises:
        MissingError: when there is no such file.
        InputError: when it is no object of flags, or names one that does not exist.
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
    return limits


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


def _volumes(evidence: Evidence, limit: Limit) -> Values:
    for label in limit.judged(evidence.table):
        yield label.name, evidence.volumes[label.code]


def _pairs(evidence: Evidence, limit: Limit) -> Iterator[tuple[Label, Label]]:
    """Yield left and right structure of each pair that is judged."""
    partners = side_partners(evidence.table)
    for label in limit.judged(evidence.table):
        if label.side == "left" and partners[label.channel] != label.channel:
            yield label, evidence.table[partners[label.channel]]


def _smaller_side(evidence: Evidence, limit: Limit) -> Values:
    for pair in _pairs(evidence, limit):
        smaller, larger = sorted(pair, key=lambda label: evidence.volumes[label.code])
        volume = evidence.volumes[larger.code]
        if volume and volume >= limit.smallest_mm3:
            yield smaller.name, evidence.volumes[smaller.code] / volume


def _asymmetries(evidence: Evidence, limit: Limit) -> Values:
    asymmetry = {row.code: row.asymmetry for row in evidence.rows}
    for left, right in _pairs(evidence, limit):
        value = asymmetry[left.code]
        # A side that is not there at all is "one_side".
        if value is not None and min(evidence.volumes[label.code] for label in (left, right)) > 0:
            yield from ((label.name, value) for label in (left, right))


def _areas_on_the_border(evidence: Evidence, limit: Limit) -> Values:
    for label in limit.judged(evidence.table):
        yield label.name, evidence.border_mm2.get(label.code, 0.0)


def _dropped_shares(evidence: Evidence, limit: Limit) -> Values:
    for label in limit.judged(evidence.table):
        dropped = evidence.dropped_mm3.get(label.code, 0.0)
        if dropped and dropped >= limit.smallest_mm3:
            yield label.name, dropped / (dropped + evidence.volumes[label.code])


def _shares_apart(evidence: Evidence, limit: Limit) -> Values:
    for label in limit.judged(evidence.table):
        apart, dropped = (counts.get(label.code, 0.0) for counts in (evidence.apart_mm3, evidence.dropped_mm3))
        if apart and apart >= limit.smallest_mm3:
            yield label.name, apart / max(apart, dropped + evidence.volumes[label.code])


def _distances(evidence: Evidence, limit: Limit) -> Values:
    farthest: dict[str, float] = {}
    for piece in evidence.pieces_apart(limit.smallest_mm3):
        farthest[piece.structure] = max(piece.distance_mm, farthest.get(piece.structure, 0.0))
    yield from farthest.items()


def _brain_volume(evidence: Evidence, _: Limit) -> Values:
    yield None, (evidence.totals["brain_without_ventricles"] or 0.0) / 1000  # mL


def _contrast(evidence: Evidence, dark: str, bright: str) -> Values:
    """Yield how much brighter one tissue is than another, as a share of the contrast inside the labels."""
    low, high = (evidence.median(evidence.codes_in(region)) for region in (dark, bright))
    if low is not None and high is not None:
        yield None, (high - low) / evidence.intensity_span if evidence.intensity_span else 0.0


def _white_over_cortex(evidence: Evidence, _: Limit) -> Values:
    yield from _contrast(evidence, CORTEX, WHITE)


def _cortex_over_fluid(evidence: Evidence, _: Limit) -> Values:
    yield from _contrast(evidence, VENTRICLES, CORTEX)


def _way_to_cerebrum(evidence: Evidence, regions: Sequence[str], axis: int) -> Values:
    """Yield how far the cerebral hemispheres lie beyond some regions along an axis of the world, mm."""
    start, end = (evidence.centre(evidence.codes_in(*names)) for names in (regions, (WHITE, CORTEX)))
    if start is not None and end is not None:
        yield None, float(end[axis] - start[axis])


def _up_to_cerebrum(evidence: Evidence, _: Limit) -> Values:
    yield from _way_to_cerebrum(evidence, (CEREBELLUM, STEM), axis=2)


def _forward_to_cerebrum(evidence: Evidence, _: Limit) -> Values:
    yield from _way_to_cerebrum(evidence, (CEREBELLUM,), axis=1)


def _left_to_right(evidence: Evidence, limit: Limit) -> Values:
    for pair in _pairs(evidence, limit):
        left, right = (evidence.centre([label.code]) for label in pair)
        if left is not None and right is not None:
            yield from ((label.name, float(right[0] - left[0])) for label in pair)


class Rule(NamedTuple):
    """How a flag is found: what is measured, and whether low or high values are suspicious."""

    values: Callable[[Evidence, Limit], Values]
    flags_below: bool


RULES: Mapping[str, Rule] = {
    "missing": Rule(_volumes, flags_below=True),
    "one_side": Rule(_smaller_side, flags_below=True),
    "asymmetry": Rule(_asymmetries, flags_below=False),
    "brain_small": Rule(_brain_volume, flags_below=True),
    "brain_large": Rule(_brain_volume, flags_below=False),
    "cut": Rule(_areas_on_the_border, flags_below=False),
    "dropped": Rule(_dropped_shares, flags_below=False),
    "pieces": Rule(_shares_apart, flags_below=False),
    "apart": Rule(_distances, flags_below=False),
    "contrast_white": Rule(_white_over_cortex, flags_below=True),
    "contrast_fluid": Rule(_cortex_over_fluid, flags_below=True),
    "upside_down": Rule(_up_to_cerebrum, flags_below=True),
    "back_to_front": Rule(_forward_to_cerebrum, flags_below=True),
    "sides": Rule(_left_to_right, flags_below=True),
}
"""What finds each flag; the units of the values are told in docs/results.md."""
