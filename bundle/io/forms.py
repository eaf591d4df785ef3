"""The two affines of a NIfTI header, sform and qform, and how far they are apart.

They may lead to different spaces, the scanner's and a template's, but both describe the same head: where they disagree
about left and right, or about the closest axes, one of them is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Header
from nibabel.orientations import aff2axcodes
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from bundle.errors import InputError

AFFINE_FORMS = ("sform", "qform")


@dataclass(frozen=True)
class FormDifference:
    """From the sform to the qform.

    Attributes:
        degrees: of the rotation between them; where one is a mirror image, of what remains.
        mm: between the two places of the volume's centre.
        sform_axes, qform_axes: where the voxel axes lead by each, such as ``"RAS"``.
        mirrored: whether what is left by one is right by the other.
    """

    degrees: float
    mm: float
    sform_axes: str
    qform_axes: str
    mirrored: bool

    @property
    def contradicts(self) -> bool:
        """Whether they cannot both describe the head."""
        return self.mirrored or self.sform_axes != self.qform_axes


def has_both(header: Nifti1Header) -> bool:
    """Tell whether the codes of both forms say that they hold."""
    return bool(header["sform_code"] > 0 and header["qform_code"] > 0)


def compare_forms(
    sform: NDArray[np.float64], qform: NDArray[np.float64], shape: NDArray[np.int64] | tuple[int, ...]
) -> FormDifference:
    """Return how two invertible affines (4, 4) of a volume of a shape differ."""
    directions = [affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) for affine in (sform, qform)]
    mirrored = bool(np.linalg.det(directions[0]) * np.linalg.det(directions[1]) < 0)
    if mirrored:
        directions[1] = directions[1] * [-1, 1, 1]
    turned = directions[1] @ np.linalg.inv(directions[0])
    # The angle by its sine: the cosine of a small one drowns in single precision.
    sine = np.linalg.norm(turned - np.eye(3)) / np.sqrt(8)
    centre = (np.asarray(shape, dtype=np.float64) - 1) / 2
    shift = np.linalg.norm(apply_affine(qform, centre) - apply_affine(sform, centre))
    sform_axes, qform_axes = ("".join(aff2axcodes(affine)) for affine in (sform, qform))
    degrees = float(np.degrees(2 * np.arcsin(min(1.0, float(sine)))))
    return FormDifference(degrees, float(shift), sform_axes, qform_axes, mirrored)


def read_qform(header: Nifti1Header, path: Path, ignore_signs: bool = False) -> NDArray[np.float64]:
    """Return the qform; qfac is -1 when negative and 1 otherwise, unset (0) included, as the standard has it.

    Args:
        header: the header.
        path: the file, for messages.
        ignore_signs: take negative entries of pixdim for their size.

    Raises:
        InputError: when it is none.
    """
    header = header.copy()
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    if ignore_signs:
        header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (ValueError, HeaderDataError) as error:
        found = f"found an invalid qform ({error})"
        raise InputError(path, found, "a unit quaternion is wanted", "geometry") from error
