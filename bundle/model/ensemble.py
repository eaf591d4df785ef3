"""Several models of one task as one: the folds of a training, whose class probabilities are averaged.

``tests/bundle/model/test_ensemble.py`` holds them equal to the mean of what the networks give one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bundle.errors import OptionError
from bundle.labels import Label
from bundle.model.folder import MODEL_FILE, Model
from bundle.provenance import sha256

ALIKE = ("orientation", "pixdim", "roi_size", "normalisation", "foreground_crop")
"""Fields of ``model.json`` that must be equal: all networks see one image, in the same windows."""
ALIKE_LABELS = ("codes", "names", "largest_component", "ignore", "unscored")
"""Likewise of its ``labels``."""


@dataclass(frozen=True)
class Ensemble(Model):
    """A model that is the average of several; what holds for all of them is read from the first.

    Attributes:
        members: the models.
    """

    members: tuple[Model, ...] = ()

    @property
    def held_out(self) -> list[str] | None:
        """Names of the cases that no member's training saw; ``None`` where that is not known of each."""
        known = [member.held_out for member in self.members]
        if None in known:
            return None
        sets = [set(names or ()) for names in known]
        return [name for name in known[0] or () if all(name in names for names in sets)]

    @property
    def trained_on(self) -> list[str]:
        """Names of the cases that a member's training saw, where they are known."""
        return list(dict.fromkeys(name for member in self.members for name in member.trained_on))

    @property
    def quality(self) -> dict[str, list[int]] | None:
        """Groups whose Dice the networks predict, where all of them do so of the same ones."""
        first = self.members[0].quality
        return first if all(member.quality == first for member in self.members) else None

    @property
    def flags_left_out(self) -> list[str]:
        """Codes of flags that are not looked for in results of a member."""
        return list(dict.fromkeys(code for member in self.members for code in member.flags_left_out))

    def compared(self, pixdim: Sequence[float], table: Sequence[Label]) -> dict[str, Any]:
        """Do what :meth:`Model.compared` does, and name every member."""
        members = [
            {
                "task": member.task if member.own else None,
                "sha256": sha256(member.folder / MODEL_FILE) if member.own else None,
                "fold": None if not member.own or member.content["split"] is None else member.content["split"]["fold"],
            }
            for member in self.members
        ]
        return {**super().compared(pixdim, table), "members": members}


def make_ensemble(members: Sequence[Model]) -> Ensemble:
    """Return models as one.

    Raises:
        OptionError: when they are not alike; the line names the first thing that differs.
    """
    first = members[0]
    for other in members[1:]:
        for name, own, found in _compared(first.content, other.content):
            if own != found:
                message = f"found {name} {_shown(found)} in {other.folder} and {_shown(own)} in {first.folder}"
                raise OptionError("model", message, "models that differ in their weights alone are wanted")
    own = all(member.own for member in members)
    return Ensemble(first.folder, first.content, first.weights, own, tuple(members))


def _compared(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return name and both values of everything that must be equal."""
    fields = [(name, first[name], other[name]) for name in ALIKE]
    labels = [(f"labels.{name}", first["labels"][name], other["labels"][name]) for name in ALIKE_LABELS]
    return [*labels, *fields]


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
