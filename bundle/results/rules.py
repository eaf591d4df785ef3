"""What flags are made of: for each, what is measured and which side of its threshold is suspicious.

``RULES`` is the only table of them; ``bundle.results.flags`` compares what they yield with ``configs/flags.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bundle.labels import Label, side_partners
from bundle.results.evidence import Evidence
from bundle.results.totals import CEREBELLUM, CORTEX, STEM, VENTRICLES, WHITE

ASSUMED = "assumed"
"""What ``bundle.io.Grid`` calls the source of an affine that no header gave."""
OTHERS = "*"
"""In place of a region: all that are not named."""

Values = Iterator[tuple[str | None, float]]
"""What was measured: name of the structure, ``None`` for the whole scan, and the value."""


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


def _confidence(evidence: Evidence, limit: Limit) -> Values:
    rows = {row.code: row for row in evidence.rows}
    for label in limit.judged(evidence.table):
        row = rows[label.code]
        if row.confidence is not None and row.volume_mm3 >= limit.smallest_mm3:
            yield label.name, row.confidence


def _quality(evidence: Evidence, limit: Limit) -> Values:
    predicted = {row.code: row.quality for row in evidence.rows}
    for label in limit.judged(evidence.table):
        value = predicted[label.code]
        if value is not None:
            yield label.name, value


def _shares_of_the_usual(evidence: Evidence, limit: Limit) -> Values:
    """Yield how large each structure is against what is usual in a head of this size."""
    expected = {row.code: row.expected_mm3 for row in evidence.rows}
    for label in limit.judged(evidence.table):
        usual = expected[label.code]
        if usual is not None:
            yield label.name, evidence.volumes[label.code] / usual


def _z(evidence: Evidence, limit: Limit) -> Values:
    rows = {row.code: row for row in evidence.rows}
    for label in limit.judged(evidence.table):
        value = rows[label.code].z
        if value is not None:
            yield label.name, value


def _misplacement(evidence: Evidence, limit: Limit) -> Values:
    value = evidence.misplacement(label.code for label in limit.judged(evidence.table))
    if value is not None:
        yield None, value


def _assumed_affine(evidence: Evidence, _: Limit) -> Values:
    yield None, float(evidence.affine_source == ASSUMED)


def _depth_over_rim(evidence: Evidence, _: Limit) -> Values:
    value = evidence.depth_contrast()
    # Without any contrast there is no T1 weighting either.
    yield None, 0.0 if value is None else value


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
    "orientation_unknown": Rule(_assumed_affine, flags_below=False),
    "not_a_head": Rule(_misplacement, flags_below=False),
    "contrast_depth": Rule(_depth_over_rim, flags_below=True),
    "low_confidence": Rule(_confidence, flags_below=True),
    "quality": Rule(_quality, flags_below=True),
    "small": Rule(_shares_of_the_usual, flags_below=True),
    "volume": Rule(_z, flags_below=False),
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
