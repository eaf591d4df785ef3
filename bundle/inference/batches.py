"""Batches of a data set that goes on past a scan that cannot be loaded, see ``bundle.inference.skipping``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.data import list_data_collate

FAILED = "failed"
"""Key of an item, or of a batch, under which the reason stands why a scan could not be loaded."""


def collate_scans(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return MONAI's batch of the items that could be loaded, with the reasons of the others under ``failed``."""
    reasons = [item[FAILED] for item in items if FAILED in item]
    loaded = [item for item in items if FAILED not in item]
    batch: dict[str, Any] = list_data_collate(loaded) if loaded else {}
    return {**batch, FAILED: reasons} if reasons else batch
