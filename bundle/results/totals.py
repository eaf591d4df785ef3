"""Volumes that people ask for first, summed over the structures of a whole-brain label table by their regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bundle.labels import Label

WHITE, CORTEX, CEREBELLUM = "cerebral white matter", "cerebral cortex", "cerebellum"
DEEP_GREY, STEM = "subcortical grey matter", "brain stem"
VENTRICLES, FLUID = "ventricles", "cerebrospinal fluid"
BRAIN = (WHITE, CORTEX, CEREBELLUM, DEEP_GREY, STEM)
REGIONS = (*BRAIN, VENTRICLES, FLUID)
"""The values of the column ``region`` that a table of a whole brain has; totals of other tables are unknown."""


@dataclass(frozen=True)
class Total:
    """A sum over structures: which of them, and what that is in words."""

    includes: Callable[[Label], bool]
    definition: str


def _is_grey(label: Label) -> bool:
    return label.region in (CORTEX, DEEP_GREY) or (label.region == CEREBELLUM and "cortex" in label.name.lower())


TOTALS: Mapping[str, Total] = {
    "brain_without_ventricles": Total(
        lambda label: label.region in BRAIN,
        "cerebral white matter and cortex, cerebellum, subcortical grey matter and brain stem",
    ),
    "total_grey": Total(_is_grey, "cerebral cortex, subcortical grey matter with ventral DC, cerebellar cortex"),
    "cerebral_white": Total(lambda label: label.region == WHITE, "cerebral white matter"),
    "ventricles": Total(
        lambda label: label.region == VENTRICLES, "lateral, inferior lateral, third and fourth ventricles"
    ),
    "intracranial": Total(
        lambda label: label.region in REGIONS,
        "brain, ventricles and the label CSF: what was labelled inside the skull, no estimate of what was not; in a "
        "skull-stripped scan it ends where the stripping did",
    ),
}


def is_whole_brain(table: Sequence[Label]) -> bool:
    """Tell whether a table names the regions of a whole brain, which totals and flags are about."""
    return set(REGIONS) <= {label.region for label in table}


def total_volumes(volumes: Mapping[int, float], table: Sequence[Label]) -> dict[str, float | None]:
    """Sum the volumes of structures.

    Args:
        volumes: mm³ by code.
        table: the structures, background first.

    Returns:
        mm³ by the names of ``TOTALS``; ``None`` where the table is not that of a whole brain.
    """
    if not is_whole_brain(table):
        return dict.fromkeys(TOTALS)
    return {
        name: sum(volumes[label.code] for label in table[1:] if total.includes(label)) for name, total in TOTALS.items()
    }
