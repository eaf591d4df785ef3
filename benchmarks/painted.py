"""A scan painted in other contrasts, through the medians of its fluid, grey and white matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_fill_holes

MEDIANS_OF = {"fluid": (4, 43), "grey": (3, 42), "white": (2, 41)}


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan and what was found in it.

    Attributes:
        image: shape (X, Y, Z), axes towards R, A, S.
        codes: its labels, the same shape.
        affine: voxel to world, mm, shape (4, 4).
    """

    image: NDArray[Any]
    codes: NDArray[Any]
    affine: NDArray[Any]

    def painted(self, image: NDArray[Any]) -> Scan:
        """Return the scan with other intensities."""
        return replace(self, image=image)

    def where(self, kept: NDArray[np.bool_]) -> Scan:
        """Return the scan with zeros outside of a mask."""
        return self.painted(np.where(kept, self.image, 0))

    def along(self, axis: int) -> NDArray[np.float64]:
        """Return each voxel's place along an axis, 0 to 1 over the head, in a shape that broadcasts."""
        found = np.flatnonzero(self.head.any(axis=tuple({0, 1, 2} - {axis})))
        place = (np.arange(self.image.shape[axis]) - found[0]) / max(1, found[-1] - found[0])
        return np.asarray(np.expand_dims(place, tuple({0, 1, 2} - {axis})))

    @property
    def head(self) -> NDArray[np.bool_]:
        """What is brighter than air, and what it encloses."""
        return np.asarray(binary_fill_holes(self.image > 0.05 * np.percentile(self.image, 99.5)))


def recoloured(scan: Scan, fluid: float, grey: float, white: float) -> NDArray[Any]:
    """Give the three tissues other intensities, and what lies between them what lies between those; air stays 0.

    In the brain, 3 voxels around it included, what is darker than fluid goes on along the line from grey matter to
    fluid, as fluid's texture does; elsewhere (bone, air in the head) it goes to 0.
    """
    medians = [np.median(scan.image[np.isin(scan.codes, codes)]) for codes in MEDIANS_OF.values()]
    known = [0.0, *medians, 1.5 * medians[-1]]
    painted = np.interp(scan.image, known, [0.0, fluid, grey, white, white])
    beyond = fluid + (scan.image - medians[0]) * (grey - fluid) / (medians[1] - medians[0])
    dark = (scan.image < medians[0]) & binary_dilation(binary_fill_holes(scan.codes > 0), iterations=3)
    return np.asarray(np.where(dark, beyond, painted).clip(min=0) * scan.head)


def grainy(image: NDArray[Any], amount: float, seed: int = 0) -> NDArray[Any]:
    """Add normal noise where there is something."""
    return np.where(image != 0, image + np.random.default_rng(seed).normal(0, amount, image.shape), 0)


def ct(scan: Scan) -> Scan:
    """Paint Hounsfield units in a skull 3 to 9 mm outside of the head, air around it at -1000."""
    brain = scan.head
    tissue = np.where(brain, recoloured(scan, 5.0, 38.0, 29.0), -1000.0)
    steps = [round(mm / np.linalg.norm(scan.affine[:3, 0])) for mm in (3, 6)]
    inner = binary_dilation(brain, iterations=steps[0])
    outer = binary_dilation(inner, iterations=steps[1])
    tissue[inner & ~brain], tissue[outer & ~inner] = 5.0, 1000.0
    return scan.painted(np.where(outer, grainy(tissue, 5.0), tissue))


def ct_window(scan: Scan) -> Scan:
    """Show the same through a brain window, 0 to 80 Hounsfield units."""
    return scan.painted(np.clip(ct(scan).image, 0, 80))


def inverted(scan: Scan) -> Scan:
    """Make bright what is dark inside the head."""
    return scan.painted(np.where(scan.image > 0, 1.1 * scan.image.max() - scan.image, 0))


def t2(scan: Scan) -> Scan:
    """Paint fluid bright and white matter dark."""
    return scan.painted(grainy(recoloured(scan, 1000.0, 550.0, 350.0), 15.0))


def flair(scan: Scan) -> Scan:
    """Paint fluid dark, and grey matter brighter than white."""
    return scan.painted(grainy(recoloured(scan, 100.0, 600.0, 470.0), 15.0))


def proton_density(scan: Scan) -> Scan:
    """Paint fluid and grey matter alike, white matter darker."""
    return scan.painted(grainy(recoloured(scan, 560.0, 600.0, 450.0), 15.0))


CONTRASTS: Mapping[str, Callable[[Scan], Scan]] = {
    "CT-like": ct,
    "CT-like, window": ct_window,
    "inverted": inverted,
    "T2-like": t2,
    "FLAIR-like": flair,
    "PD-like": proton_density,
}
"""What can be made of a scan."""
