"""Names of cases: those of files, without what marks them as a label map or a scan."""

from __future__ import annotations

from collections.abc import Iterable

LABEL_SUFFIXES = ("_desc-aseg_dseg", "_labels", "_label", "_dseg", "_seg")
"""What label maps have behind the name of their case, here, in BIDS and in MONAI."""
IMAGE_SUFFIXES = ("_T1w", "_T1", "_0000")
"""What the scans of a case have behind its name, here, in BIDS and in nnU-Net."""


def without(name: str, suffixes: Iterable[str]) -> str:
    """Return a name without the first of the suffixes that it ends in, whatever the case of the letters."""
    found = next((suffix for suffix in suffixes if name.lower().endswith(suffix.lower())), "")
    return name[: len(name) - len(found)] or name


def plain_name(name: str) -> str:
    """Return a name without suffixes of either kind, by which a label map and a scan of one case are alike."""
    return without(without(name, LABEL_SUFFIXES), IMAGE_SUFFIXES)
