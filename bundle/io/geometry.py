"""Where a volume lies in the world: the affine that a NIfTI header gives, and what makes it unusable."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

from bundle.errors import GeometryWarning, InputError
from bundle.io.forms import AFFINE_FORMS, FormDifference, compare_forms, has_both, read_qform
from bundle.warned import warn

MIN_SPACING = 0.05
"""mm; finer voxels are microscopy."""
MAX_SPACING = 25.0
"""mm; coarser voxels are a wrong unit."""
MAX_ORIGIN = 1e5
"""mm, 100 m from the scanner's centre."""
MAX_SHEAR = 0.05
"""Absolute cosine between two axes."""
MAX_PIXDIM_ERROR = 0.02
"""Relative difference between pixdim and the affine's spacing."""
PIXDIM_ROUNDING = 1e-4
"""Relative difference that single precision and printed decimals explain."""

GRID_TOLERANCE = 0.05
"""Share of the smallest voxel edge by which corners may differ: single precision and quaternions explain less."""

XYZT_UNIT_NAMES = {0: "unknown", 1: "metres", 2: "mm", 3: "micrometres"}


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a file lie.

    Attributes:
        path: the file.
        shape: (X, Y, Z).
        affine: voxel to world, mm, RAS+, float64 (4, 4).
        source: what gave the affine: ``"sform"``, ``"qform"`` or ``"assumed"``.
        form_difference: how the sform and the qform differ, ``None`` where only one of them can be used.
    """

    path: Path
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    source: str = "sform"
    form_difference: FormDifference | None = None

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Edges of a voxel in mm, (3,)."""
        return _column_norms(self.affine)

    def difference(self, other: Grid) -> str | None:
        """Return how another grid differs from this one, as a clause, or ``None`` when it has its shape and corners."""
        if other.shape != self.shape:
            return f"found shape {other.shape} against {self.shape} in {self.path}"
        corners = np.array(list(product(*((0, length - 1) for length in self.shape))))
        moved = apply_affine(other.affine, corners) - apply_affine(self.affine, corners)
        distance = float(np.linalg.norm(moved, axis=1).max())
        if distance > GRID_TOLERANCE * self.spacing.min():
            return f"found an affine that puts a corner {distance:.3g} mm away from where {self.path} has it"
        return None


def choose_affine(
    header: Nifti1Header, path: str | Path, assume_affine: bool = False, trust: str = ""
) -> NDArray[np.float64]:
    """Return the voxel-to-world matrix in mm, RAS+, float64 (4, 4).

    The sform wins when its code is above 0, else the qform. Where both are there and disagree about left and right or
    about the closest axes, the file is refused. pixdim never replaces either of them: 2 % off is a warning, more is
    refused.

    Args:
        header: the header as stored.
        path: the file, for messages.
        assume_affine: take nibabel's fallback (pixdim, x to the left, origin at the centre) when both codes are 0.
        trust: ``"sform"`` or ``"qform"``: which one is right where both codes are above 0.

    Raises:
        InputError: when there is no affine, or it is singular, sheared, too fine, too coarse or too far away,
            or contradicts pixdim or the other form, or is given in other units than mm.
    """
    shape = tuple(max(1, int(size)) for size in header["dim"][1:4])
    return place_volume(header, Path(path), shape, assume_affine, trust).affine


def place_volume(
    header: Nifti1Header, path: Path, shape: tuple[int, ...], assume_affine: bool = False, trust: str = ""
) -> Grid:
    """Return where a volume of a shape lies, by the policy of :func:`choose_affine`."""
    units = int(header["xyzt_units"]) & 7
    if units not in (0, 2):
        raise _refusal(path, f"found units {XYZT_UNIT_NAMES.get(units, units)}", "mm is wanted")
    if has_both(header):
        grid = _place_by_both(header, path, shape, trust)
    else:
        grid = Grid(path, shape, _stored_affine(header, path, assume_affine), affine_source(header))
        _check_affine(grid.affine, path)
    _check_pixdim(header, grid.affine, path)
    return grid


def voxel_volume(affine: NDArray[np.float64]) -> float:
    """Return the volume of one voxel in mm³: the affine's determinant, whatever its axes' order, sign or angle.

    Raises:
        ValueError: when the affine is not an invertible (4, 4) matrix of finite numbers.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"affine: must have shape (4, 4), found {matrix.shape}.")
    volume = abs(float(np.linalg.det(matrix[:3, :3]))) if np.isfinite(matrix).all() else 0.0
    if volume == 0:
        raise ValueError(f"affine: must be finite and invertible, found {matrix.tolist()}.")
    return volume


def affine_source(header: Nifti1Header) -> str:
    """Return which field of a header gives its affine: ``"sform"``, ``"qform"``, or ``"assumed"`` for neither."""
    if header["sform_code"] > 0:
        return "sform"
    return "qform" if header["qform_code"] > 0 else "assumed"


def _stored_affine(header: Nifti1Header, path: Path, assume_affine: bool) -> NDArray[np.float64]:
    source = affine_source(header)
    if source == "sform":
        return np.asarray(header.get_sform(), dtype=np.float64)
    if source == "qform":
        return read_qform(header, path)
    if assume_affine:
        return np.asarray(header.get_base_affine(), dtype=np.float64)
    wanted = "a header that says where the volume lies, or --assume-affine, is wanted"
    raise _refusal(path, "found neither an sform nor a qform", wanted)


def _place_by_both(header: Nifti1Header, path: Path, shape: tuple[int, ...], trust: str) -> Grid:
    """Return the grid by the form that is trusted, else by the sform unless the qform contradicts it."""
    forms = {"sform": np.asarray(header.get_sform(), dtype=np.float64)}
    problems: dict[str, InputError] = {}
    source = trust or AFFINE_FORMS[0]
    try:
        forms["qform"] = read_qform(header, path, ignore_signs=source == "sform")
    except InputError as error:
        problems["qform"] = error
    for form, affine in forms.items():
        try:
            _check_affine(affine, path)
        except InputError as error:
            problems[form] = error
    other = next(form for form in AFFINE_FORMS if form != source)
    if source in problems:
        wanted = problems[source].wanted
        if other not in problems:
            wanted = wanted.removesuffix(" is wanted")
            wanted = f"{wanted}, or --trust-{other} for the {other}, which is sound, is wanted"
        raise _refusal(path, problems[source].found, wanted)
    if other in problems:
        if not trust:
            found = f"{problems[other].found} beside a sound {source}"
            warn(GeometryWarning(f"{path}: {found}; the {source} is used"), stacklevel=5)
        return Grid(path, shape, forms[source], source)
    difference = compare_forms(forms["sform"], forms["qform"], shape)
    if difference.contradicts and not trust:
        what = "left and right" if difference.mirrored else "the closest axes"
        found = (
            f"found an sform that says {difference.sform_axes} and a qform that says {difference.qform_axes}: "
            f"they disagree about {what}"
        )
        raise _refusal(path, found, "one of them by --trust-sform or --trust-qform is wanted")
    return Grid(path, shape, forms[source], source, difference)


def _check_affine(affine: NDArray[np.float64], path: Path) -> None:
    if not np.isfinite(affine).all():
        raise _refusal(path, "found NaN or Inf in the affine", "a finite affine is wanted")
    spacing = _column_norms(affine)
    if (spacing == 0).any():
        raise InputError(
            path, "found an axis of zero length in the affine", "an invertible affine is wanted", "geometry"
        )
    if (spacing < MIN_SPACING).any() or (spacing > MAX_SPACING).any():
        wanted = f"{MIN_SPACING:g} to {MAX_SPACING:g} mm is wanted"
        raise _refusal(path, f"found a spacing of {_triple(spacing)} mm", wanted)
    axes = affine[:3, :3] / spacing
    shear = np.abs(axes.T @ axes - np.eye(3)).max()
    if shear > MAX_SHEAR:
        raise InputError(
            path, f"found sheared axes (cosine {shear:.3f})", f"at most {MAX_SHEAR:g} is wanted", "geometry"
        )
    distance = np.linalg.norm(affine[:3, 3])
    if distance > MAX_ORIGIN:
        wanted = f"at most {MAX_ORIGIN:g} mm is wanted"
        raise _refusal(path, f"found an origin {distance:g} mm away", wanted)


def _check_pixdim(header: Nifti1Header, affine: NDArray[np.float64], path: Path) -> None:
    spacing = _column_norms(affine)
    pixdim = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    error = np.abs(pixdim / spacing - 1).max()
    found = f"found pixdim {_triple(pixdim)} against an affine of {_triple(spacing)} mm"
    if not error <= MAX_PIXDIM_ERROR:
        raise _refusal(path, found, f"at most {MAX_PIXDIM_ERROR:.0%} of difference is wanted")
    if error > PIXDIM_ROUNDING:
        warn(GeometryWarning(f"{path}: {found}; the affine is used"), stacklevel=5)


def _refusal(path: Path, found: str, wanted: str) -> InputError:
    return InputError(path, found, wanted, "geometry")


def _column_norms(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.linalg.norm(affine[:3, :3], axis=0)
    return norms


def _triple(values: NDArray[np.float64]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)
