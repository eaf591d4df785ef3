"""Headers that do not say, or say twice and differently, where the volume lies."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from tests.geometries import patch_header
from tests.inputs.case import AFFINE, Case, head, save


def turned(axes: str, *degrees: float, shift: float = 0.0) -> np.ndarray:
    """Return the phantom's affine, turned about world axes and shifted along x."""
    affine = AFFINE.copy()
    affine[:3] = Rotation.from_euler(axes, degrees, degrees=True).as_matrix() @ AFFINE[:3]
    affine[0, 3] += shift
    return affine


def scaled(*factors: float) -> np.ndarray:
    return AFFINE @ np.diag([*factors, 1.0])


def sheared() -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 1] += 0.2 * affine[:3, 0]
    return affine


def placed(affine: np.ndarray, sform: int = 1, qform: int = 0, **fields):
    """Return what writes the phantom with an sform, unchecked; pixdim is what it says."""

    def make(path: Path) -> None:
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        save(path, sform=sform, qform=qform)
        rows = {f"srow_{row}": affine[index] for index, row in enumerate("xyz")}
        pixdim = [1, *np.nan_to_num(spacing), 0, 0, 0, 0]
        patch_header(path, **{"pixdim": pixdim, **rows, **fields})

    return make


def both(sform: np.ndarray, qform: np.ndarray, sform_code: int = 1, qform_code: int = 1, **fields):
    """Return what writes the phantom with two affines."""

    def make(path: Path) -> None:
        image = nib.Nifti1Image(head().astype(np.int16), None)
        image.header.set_qform(qform, qform_code)
        image.header.set_sform(sform, sform_code)
        image.header.set_xyzt_units("mm")
        nib.save(image, path)
        if fields:
            patch_header(path, **fields)

    return make


def _mgh(**fields):
    def make(path: Path) -> None:
        block = bytearray(nib.MGHImage(head().astype(np.float32), AFFINE).to_bytes())
        header = nib.freesurfer.MGHImage.header_class(bytes(block[:284]), check=False)
        for name, value in fields.items():
            header[name] = value
        path.write_bytes(header.binaryblock[:284] + bytes(block[284:]))

    return make


FLIPPED = scaled(-1, 1, 1)
UPSIDE_DOWN = AFFINE @ np.array([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1.0]])
SINGULAR = scaled(0, 1, 1)
ZERO = np.diag([0.0, 0, 0, 1])
NAN = np.where(np.eye(4, dtype=bool), np.nan, AFFINE)
INF = AFFINE + np.array([[0, 0, 0, np.inf], *np.zeros((3, 4))])

SINGLE = [
    Case("no affine", "nowhere.nii.gz", placed(AFFINE, 0), "geometry", "found neither an sform nor a qform"),
    Case(
        "no affine, negative codes",
        "minus.nii.gz",
        placed(AFFINE, 0, sform_code=-1, qform_code=-1),
        "geometry",
        "neither an sform nor",
    ),
    Case("singular sform", "singular.nii.gz", placed(SINGULAR), "geometry", "an axis of zero length"),
    Case("sform of zeros", "srow_zero.nii", placed(ZERO), "geometry", "an axis of zero length"),
    Case("two axes the same way", "same_way.nii", placed(AFFINE[:, [0, 0, 2, 3]]), "geometry", "found sheared axes"),
    Case("sheared sform", "sheared.nii.gz", placed(sheared()), "geometry", "found sheared axes (cosine 0.196)"),
    Case("NaN in the sform", "srow_nan.nii", placed(NAN), "geometry", "found NaN or Inf in the affine"),
    Case("Inf in the sform", "srow_inf.nii", placed(INF), "geometry", "found NaN or Inf in the affine"),
    Case("spacing of 0.04 mm", "fine.nii", placed(scaled(0.0045, 1, 1)), "geometry", "0.05 to 25 mm is wanted"),
    Case("spacing of 26 mm", "thick.nii", placed(scaled(1, 1, 2.9)), "geometry", "0.05 to 25 mm is wanted"),
    Case(
        "spacing in metres", "as_metres.nii", placed(scaled(1e-3, 1e-3, 1e-3)), "geometry", "found a spacing of 0.009"
    ),
    Case("units of metres", "metres.nii.gz", placed(AFFINE, xyzt_units=1), "geometry", "found units metres; mm"),
    Case("units of micrometres", "micro.nii", placed(AFFINE, xyzt_units=3), "geometry", "found units micrometres"),
    Case("unknown unit", "unit_5.nii", placed(AFFINE, xyzt_units=5), "geometry", "found units 5; mm"),
    Case("200 m away", "away.nii", placed(AFFINE + np.eye(4, k=3) * 2e5), "geometry", "found an origin"),
    Case(
        "pixdim 3 % off", "pixdim.nii", placed(AFFINE, pixdim=[1, 9.27, 9, 9, 0, 0, 0, 0]), "geometry", "found pixdim"
    ),
    Case(
        "pixdim of zero", "pixdim_zero.nii", placed(AFFINE, pixdim=[1, 0, 9, 9, 0, 0, 0, 0]), "geometry", "found pixdim"
    ),
    Case(
        "invalid quaternion",
        "quaternion.nii",
        placed(AFFINE, 0, 1, quatern_b=1, quatern_c=1),
        "geometry",
        "found an invalid qform",
    ),
    Case(
        "qform with a negative pixdim", "qform.nii", placed(AFFINE, 0, 1, pixdim=[1, -9, 9, 9, 0, 0, 0, 0]), "geometry"
    ),
    Case(
        "MGH without orientation", "nowhere.mgh", _mgh(goodRASFlag=0), "geometry", "found no orientation (goodRASFlag"
    ),
    Case("MGH with a zero spacing", "singular.mgh", _mgh(delta=[0, 9, 9]), "geometry", "an axis of zero length"),
    Case(
        "MGH with sheared axes", "sheared.mgh", _mgh(Mdc=[[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]]), "geometry", "sheared"
    ),
]
TWO = [
    Case(
        "qform mirrored",
        "mirrored.nii.gz",
        both(AFFINE, FLIPPED),
        "geometry",
        "an sform that says RAS and a qform that",
    ),
    Case("sform mirrored", "unmirrored.nii.gz", both(FLIPPED, AFFINE), "geometry", "disagree about left and right"),
    Case("qform mirrored, template", "template.nii", both(AFFINE, FLIPPED, 4, 1), "geometry", "--trust-sform or"),
    Case(
        "qform upside down",
        "head_down.nii.gz",
        both(AFFINE, UPSIDE_DOWN),
        "geometry",
        "disagree about the closest axes",
    ),
    Case(
        "qform turned by 90 degrees", "quarter.nii", both(AFFINE, turned("x", 90)), "geometry", "a qform that says RSP"
    ),
    Case("qform turned by 60 degrees", "sixty.nii", both(AFFINE, turned("z", 60)), "geometry", "the closest axes"),
    Case(
        "singular sform, sound qform",
        "trust_q.nii",
        both(AFFINE, AFFINE, srow_x=[0] * 4),
        "geometry",
        "or --trust-qform",
    ),
    Case(
        "NaN in the sform, sound qform",
        "nan_q.nii.gz",
        both(AFFINE, AFFINE, srow_y=[np.nan] * 4),
        "geometry",
        "or --trust-qform for the qform, which is sound",
    ),
    Case(
        "singular sform, trusted",
        "trust_s.nii",
        both(AFFINE, AFFINE, srow_x=[0] * 4),
        "geometry",
        "or --trust-qform for the qform",
        {"trust": "sform"},
    ),
    Case(
        "invalid qform, trusted",
        "quaternion_q.nii",
        both(AFFINE, AFFINE, quatern_b=1, quatern_c=1),
        "geometry",
        "or --trust-sform for the sform",
        {"trust": "qform"},
    ),
]
CASES = [*SINGLE, *TWO]
