"""What a network predicts of its own result: the Dice that each group of structures would get against the truth.

The record has it by group, the table by structure, and the flag ``quality`` says where it is low. A network without
such outputs has none, and nothing of it is anywhere (``tests/bundle/results/test_quality.py``).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

FLAG = "quality"
"""Code of the flag for a low prediction."""
DIGITS = 3
"""Of a prediction in records and tables."""

Limit = TypeVar("Limit")


def quality_key(key: Hashable) -> str:
    """Return where a scan's dictionary holds the quality that is predicted of a label map."""
    return f"{key}_quality"


@dataclass(frozen=True)
class Quality:
    """Predicted Dice of groups of structures.

    Attributes:
        groups: codes of the structures of each group, by its name.
        values: 0 to 1, in the order of the groups.
    """

    groups: Mapping[str, Sequence[int]]
    values: Sequence[float]

    def record(self) -> dict[str, float]:
        """Return the prediction of each group, by its name."""
        return {name: round(value, DIGITS) for name, value in zip(self.groups, self.values, strict=True)}

    def by_code(self) -> dict[int, float]:
        """Return the prediction of its group for each structure, by code."""
        predicted = self.record()
        return {code: predicted[name] for name, codes in self.groups.items() for code in codes}


def lowest(found: Any) -> float | None:
    """Return the lowest prediction of what a record has as quality, ``None`` where it has none."""
    numbers = found.values() if isinstance(found, Mapping) else [found]
    return min((float(number) for number in numbers if isinstance(number, (int, float))), default=None)


def limits_for(limits: Mapping[str, Limit], quality: Quality | None) -> dict[str, Limit]:
    """Return the limits of what can be looked for: without a prediction, all but that of the quality."""
    return {code: limit for code, limit in limits.items() if code != FLAG or quality is not None}
