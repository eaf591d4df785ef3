"""Ranges of the generator's random steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from bundle.errors import OptionError


@dataclass(frozen=True)
class SynthesisOptions:
    """Ranges of the random steps; lengths in mm, intensities on a scale where white matter is near 0.8.

    Attributes:
        rotation: largest rotation about each axis, degrees.
        scaling: largest relative change of size along each axis.
        shearing: largest shear.
        elastic_spacing, elastic_sd: distance of the control points and largest standard deviation of their shift.
        fine_elastic_spacing, fine_elastic_sd: the same for a second, finer field.
        swellings, swelling: largest number of structures that swell or shrink with what surrounds them, and the
            largest relative change at their centre (shape randomisation as in SIAM, arXiv 2605.02737).
        cortex: probability of patches of thicker or of thinner cortex, by one voxel of the label map.
        ventricles: probability of smaller lateral and third ventricles, by one to three voxels of the label map; what
            borders them takes the place. Label maps of the old have large ones.
        shift, head_shift: largest shift of the window along each axis, for stripped and for whole heads.
        flip, strip: probabilities of a left-right flip and of removing the head.
        cut, cut_share: probability that the field of view ends within the window, and the largest share cut off.
        random_contrast: probability that each tissue's intensity is drawn anew, whatever its T1 prior.
        contrast_by_kind: probability that grey matter, white matter and fluid are drawn anew then and not each tissue:
            the others inside the skull lie between these as they do in T1, and air stays dark, as in most sequences.
        shared_contrast: share of the variance of a tissue's intensity that it has in common with its kind (grey matter,
            white matter, fluid). At 0 amygdala, hippocampus and cortex differ in most samples, as they do in no scan,
            and the network does not learn their border where it cannot be seen.
        bias, gamma, noise, texture, blur: largest log bias field, log gamma, noise, spread inside a tissue, and
            blur (standard deviation in voxels).
        thick_slices: probability of slices thicker than the voxels in their plane.
        slice_spacing: smallest and largest distance of such slices.
        plane_spacing: smallest and largest voxel in the plane, and of scans without thick slices.
        cavities, tumours, white_matter_lesions: probabilities of a resection cavity, a tumour, and lesions of the white
            matter (:mod:`bundle.synthesis.lesions`).
        large_ventricles: probability of lateral ventricles that take one to five voxels of white matter.
        bright_scalp, scalp_gain: probability of a scalp brighter than white matter, and how many times at most.
        coil, coil_gain: probability of the field of coils near the head, and how many times brighter than the rest it
            makes what lies closest.
        contrast_agent: probability of bright vessels, meninges, mucosa and choroid plexus.
        low_field: probability of the noise, voxels and slices of a scanner of 0.05 to 0.3 T.
        ghosts, ghost_share: probability of ghosts of motion, and the largest share of intensity in one.
        warp: probability that an anatomy is led part of the way to another's, see ``warps`` of the data set.
        clip_share: smallest and largest share of voxels above the intensity that becomes 1; scans come with more or
            less air around the head, inference clips 0.5 % of all voxels.
    """

    rotation: float = 20.0
    scaling: float = 0.15
    shearing: float = 0.02
    elastic_spacing: float = 40.0
    elastic_sd: float = 4.0
    fine_elastic_spacing: float = 15.0
    fine_elastic_sd: float = 1.0
    swellings: int = 4
    swelling: float = 0.35
    cortex: float = 0.3
    ventricles: float = 0.5
    shift: float = 12.0
    head_shift: float = 25.0
    flip: float = 0.5
    strip: float = 0.6
    cut: float = 0.15
    cut_share: float = 0.25
    random_contrast: float = 0.0
    contrast_by_kind: float = 0.0
    shared_contrast: float = 0.8
    bias: float = 0.35
    gamma: float = 0.3
    noise: float = 0.06
    texture: float = 0.06
    blur: float = 0.5
    thick_slices: float = 0.3
    slice_spacing: tuple[float, float] = (1.0, 6.0)
    plane_spacing: tuple[float, float] = (0.7, 2.0)
    cavities: float = 0.0
    tumours: float = 0.0
    white_matter_lesions: float = 0.0
    large_ventricles: float = 0.0
    bright_scalp: float = 0.0
    scalp_gain: float = 3.0
    coil: float = 0.0
    coil_gain: float = 4.0
    contrast_agent: float = 0.0
    low_field: float = 0.0
    ghosts: float = 0.0
    ghost_share: float = 0.15
    warp: float = 0.5
    clip_share: tuple[float, float] = (0.002, 0.02)

    @classmethod
    def named(cls, ranges: Mapping[str, Any]) -> SynthesisOptions:
        """Return the options with some of them replaced by name.

        Raises:
            OptionError: when there is no option of a name.
        """
        check_names("options", ranges, cls)
        return cls(**ranges)


def check_names(option: str, given: Mapping[str, Any], kind: type[Any]) -> None:
    """Refuse names that are no fields of a dataclass.

    Args:
        option: what holds the names, for the error.
        given: values by name.
        kind: the dataclass.

    Raises:
        OptionError: when there is no field of a name.
    """
    known = [field.name for field in fields(kind)]
    for name in given:
        if name not in known:
            raise OptionError(option, f"found {name!r}", f"one of {', '.join(known)} is wanted")
