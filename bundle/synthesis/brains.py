"""Label maps that hold a brain alone, among the whole heads of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from bundle.errors import OptionError
from bundle.synthesis.anatomy import Anatomy, ClassTable
from bundle.synthesis.extra_cerebral import CORD, CSF, HEAD_CODES, HeadMaker, HeadOptions

UNSURE_FLUID = 520
"""Code of fluid in a brain-only map that is drawn in part: painted as fluid, and counted nowhere if 24 is ignored."""
MORE_CODES = (*HEAD_CODES, UNSURE_FLUID)


@dataclass(frozen=True)
class Brains:
    """Brain-only label maps of a training, and how they are used.

    Attributes:
        data: NIfTI label maps in the codes of the whole heads.
        share: share of the samples that come from them; the others come from the whole heads.
        ignore: codes whose voxels teach nothing, because the maps draw them by other rules; the cord that is painted
            below the brain stem is one of them always.
        extra_cerebral: how the heads around them are made, by name, see ``HeadOptions``.
    """

    data: Sequence[str | Path]
    share: float = 0.5
    ignore: Sequence[int] = ()
    extra_cerebral: Mapping[str, Any] | None = None

    @classmethod
    def named(cls, given: Mapping[str, Any]) -> Brains:
        """Return them from a config's entries.

        Raises:
            OptionError: when there is no entry of a name, or the share is none.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise OptionError("brains", f"found {name!r}", f"one of {', '.join(known)} is wanted")
        brains = cls(**given)
        if not 0 <= brains.share <= 1:
            raise OptionError("share", f"found {brains.share}", "0 to 1 is wanted")
        return brains

    def prepare(self, maps: Sequence[Anatomy], table: ClassTable) -> list[Anatomy]:
        """Return the label maps with what does not count marked."""
        number = {code: index for index, code in enumerate(table.codes)}
        codes = {UNSURE_FLUID if code == CSF else code for code in self.ignore} | {CORD}
        ignored = torch.tensor([code in codes for code in table.codes])
        prepared = []
        for label_map in maps:
            classes = label_map.classes
            if CSF in self.ignore:
                classes = torch.where(classes == number[CSF], number[UNSURE_FLUID], classes).to(torch.uint8)
            prepared.append(replace(label_map, classes=classes, ignored=ignored))
        return prepared

    def head_maker(self, table: ClassTable, heads: Sequence[Anatomy]) -> HeadMaker:
        """Return what lays heads around them; ``heads`` lend theirs."""
        return HeadMaker(table, HeadOptions.named(self.extra_cerebral or {}), heads)


def held_out(paths: Sequence[str], count: int, keep: str = "training") -> list[str]:
    """Split label maps into those that train and those that are held out, evenly spaced in the order of their names.

    Args:
        paths: label maps.
        count: how many are held out.
        keep: ``"training"`` for those that train, ``"held_out"`` for the others.

    Raises:
        OptionError: when fewer than one would train.
    """
    ordered = sorted(paths)
    if not 0 <= count < max(1, len(ordered)):
        raise OptionError("held_out", f"found {count}", f"0 to {len(ordered) - 1} of {len(ordered)} maps is wanted")
    chosen = {round((index + 0.5) * len(ordered) / count - 0.5) for index in range(count)}
    return [path for index, path in enumerate(ordered) if (index in chosen) == (keep == "held_out")]
