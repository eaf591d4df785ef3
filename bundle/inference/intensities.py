"""Intensities as the network knows them: black 0, white matter near 0.85, whatever else is in the scan.

A scan as scanners and stripping tools write it is scaled by two percentiles of all its voxels, as training scales. The
other rules step in only where those would mislead by far, and a warning says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import ScaleIntensityRange
from monai.transforms.transform import MapTransform
from monai.transforms.utils_pytorch_numpy_unification import percentile

from bundle.errors import IntensityWarning
from bundle.io.scale import background_metadata, find_background, measure_inside, scale_metadata
from bundle.warned import warn

OUTSHONE = 2.0
"""From so many times the inside's level on, the upper percentile is not the brain's: it is 1.05 to 1.26 times in five
real scans, also with noise, a bias field, turned and at 1 x 1 x 5 mm, 1.07 to 1.78 in 48 heads of the generator, as in
training, and near 3 with a rim of 3 times white matter."""
WHITE = 1.15
"""The inside's level times this becomes 1 then: white matter comes to 0.87, as it does in the median head of the
generator and, at 0.88 to 0.93, in the real scans."""


class PlaceBackgroundd(MapTransform):
    """Give a background that is grey, or far below black, the value of black, see ``bundle.io.scale``.

    Comes before resampling, which would mix it with what it borders on. The image's ``meta`` tells of it, see
    ``bundle.io.scale.scale_of``.

    Args:
        keys: images, shape (1, X, Y, Z).
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data; an image without such a background is the same object."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            found = find_background(np.asarray(image[0].cpu()))
            if found is None:
                continue
            result[key] = torch.where(image == found.value, torch.as_tensor(found.black, dtype=image.dtype), image)
            _note(result[key], background_metadata(found))
            _warn(
                image, f"found a background of {found.value:.4g}, which is not black; {found.black:.4g} takes its place"
            )
        return result


class ScaleIntensitiesd(MapTransform):
    """Scale two percentiles of all voxels to 0 and 1 and clip, as MONAI does, unless white matter gets lost.

    Where the upper one lies ``OUTSHONE`` times above the head's inside (a bright scalp, fat, a bright slice), the level
    of the inside takes its place, or the brightest of it, where that is more (fluid in T2). The image's ``meta`` tells
    which it was, see ``bundle.io.scale.scale_of``.

    Args:
        keys: images, shape (1, X, Y, Z).
        lower: percentile that becomes 0.
        upper: percentile that becomes 1.
    """

    def __init__(self, keys: KeysCollection, lower: float = 0.5, upper: float = 99.5) -> None:
        super().__init__(keys)
        self.lower, self.upper = lower, upper

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with scaled images."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            # Zero-dimensional tensors, whose difference is rounded as MONAI's ScaleIntensityRangePercentiles rounds it.
            bounds: Any = percentile(image, [self.lower, self.upper])
            low, high = bounds[0], bounds[1]
            source = "percentiles"
            spacing = affine_to_spacing(image.affine).tolist() if isinstance(image, MetaTensor) else [1.0] * 3
            inside = measure_inside(np.asarray(image[0].cpu()), spacing)
            if inside is not None and float(high) - inside.black > OUTSHONE * inside.span > 0:
                plain, level = float(high), inside.black + max(WHITE * inside.span, inside.brightest)
                if level < plain:
                    high, source = level, "inside"
                    found = f"what shines around the brain would be white at {plain:.4g}"
                    _warn(image, f"{found}; the inside of the head is scaled by {high:.4g} instead")
            result[key] = ScaleIntensityRange(low, high, 0.0, 1.0, clip=True)(image)
            _note(result[key], scale_metadata(float(low), float(high), source))
        return result


def _note(image: Any, values: Mapping[str, float | str]) -> None:
    if isinstance(image, MetaTensor):
        image.meta.update(values)


def _warn(image: Any, message: str) -> None:
    name = getattr(image, "meta", {}).get("filename_or_obj", "image")
    warn(IntensityWarning(f"{name}: {message}"), stacklevel=4)
