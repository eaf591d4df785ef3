"""What a config's preprocessing does to intensities, as the description of a model has it."""

from __future__ import annotations

from typing import Any

GRID = ("LoadImaged", "EnsureChannelFirstd", "Orientationd", "PlaceBackgroundd", "Spacingd")
"""Transforms before the intensities are scaled, which inference has too."""
SCALING = {
    "ScaleIntensitiesd": ("head", "lower", "upper"),
    "ScaleIntensityRangePercentilesd": ("percentiles", "lower", "upper"),
    "ScaleIntensityRanged": ("range", "a_min", "a_max"),
}
"""By transform: the kind of normalisation, and the arguments that become 0 and 1."""
PLAIN = {"b_min": 0.0, "b_max": 1.0, "clip": True}
ALLOWED = {"_target_", "keys", "allow_missing_keys", *PLAIN}


def normalisation_of(preprocessing: Any) -> dict[str, Any]:
    """Return ``{"kind": "head", "percentiles" or "range", "lower": ..., "upper": ...}`` of a training's transforms.

    ``{"kind": "own"}`` where they are others than inference has: such a model needs its config beside it.

    Args:
        preprocessing: a ``Compose`` as it stands in a config, references followed.
    """
    own = {"kind": "own"}
    if not isinstance(preprocessing, dict) or not isinstance(preprocessing.get("transforms"), list):
        return own
    found = None
    for transform in preprocessing["transforms"]:
        name = str(transform.get("_target_", "")).split(".")[-1]
        keys = transform.get("keys")
        if keys in ("label", ["label"]):
            continue
        if name in SCALING and found is None:
            kind, lower, upper = SCALING[name]
            plain = kind == "head" or all(transform.get(key) == value for key, value in PLAIN.items())
            limits = [transform.get(lower), transform.get(upper)]
            if not plain or set(transform) - ALLOWED - {lower, upper} or not all(map(_is_number, limits)):
                return own
            found = {"kind": kind, "lower": float(limits[0]), "upper": float(limits[1])}
        elif name not in GRID or found is not None or transform.get("axcodes", "RAS") != "RAS":
            return own
    return found or own


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
