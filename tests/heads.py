"""A T1-like head made by code with every structure of the shipped table, whose result gives no reason to look twice."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from bundle.labels import read_labels

TABLE = read_labels()
CODES = {label.name: label.code for label in TABLE}
SHAPE = (44, 56, 50)
SPACING = 4.0  # mm
AFFINE = nib.affines.from_matvec(np.eye(3) * SPACING, [-86.0, -126.0, -96.0])
DEEP = ("Lateral-Ventricle", "Inf-Lat-Vent", "Thalamus", "Caudate", "Putamen", "Pallidum", "Hippocampus", "Amygdala",
        "Accumbens-area", "VentralDC")  # fmt: skip
FLUID = ("CSF", "Ventricle", "Vent")


def head_codes() -> np.ndarray:
    """Return codes, shape (X, Y, Z), axes towards R, A, S: a brain of 1.4 litres, the same on both sides."""
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(nib.affines.apply_affine(AFFINE, index), -1, 0)
    codes = np.zeros(SHAPE, dtype=np.int16)

    def paint(inside: np.ndarray, name: str) -> None:
        if name in CODES:
            codes[inside] = CODES[name]
        else:
            codes[inside & (x < 0)], codes[inside & (x >= 0)] = CODES[f"Left-{name}"], CODES[f"Right-{name}"]

    radius = np.sqrt((x / 64) ** 2 + ((y + 20) / 84) ** 2 + ((z - 15) / 56) ** 2)
    for limit, name in ((1.08, "CSF"), (1.0, "Cerebral-Cortex"), (0.76, "Cerebral-White-Matter")):
        paint(radius < limit, name)
    for place, name in enumerate(DEEP):
        box = (np.abs(np.abs(x) - 16) < 4) & (np.abs(y + 60 - 16 * (place // 2)) < 4)
        paint(box & (np.abs(z - 6 - 16 * (place % 2)) < 4), name)
    for name, height in (("3rd-Ventricle", 14), ("4th-Ventricle", -2)):
        paint((np.abs(x) < 4) & (np.abs(y + 32) < 4) & (np.abs(z - height) < 4), name)
    radius = np.sqrt(((np.abs(x) - 25) / 24) ** 2 + ((y + 65) / 28) ** 2 + ((z + 42) / 20) ** 2)
    for limit, name in ((1.0, "Cerebellum-Cortex"), (0.6, "Cerebellum-White-Matter")):
        paint(radius < limit, name)
    paint((np.abs(x) < 10) & (np.abs(y + 30) < 10) & (np.abs(z + 50) < 22), "Brain-Stem")
    return codes


def head_image(codes: np.ndarray) -> np.ndarray:
    """Return T1-like intensities of codes with a little noise: white matter 0.8, grey 0.55, fluid 0.2, air 0."""
    image = np.zeros(codes.shape, dtype=np.float32)
    for label in TABLE[1:]:
        dark, bright = label.name.endswith(FLUID), label.name.endswith(("White-Matter", "Stem"))
        image[codes == label.code] = 0.2 if dark else 0.8 if bright else 0.55
    return image + np.random.default_rng(0).normal(0, 0.02, codes.shape).astype(np.float32)


def write_head(path: Path, affine: np.ndarray = AFFINE, text: str = "") -> np.ndarray:
    """Write the head's image as NIfTI and return its codes."""
    codes = head_codes()
    scan = nib.Nifti1Image(head_image(codes), affine)
    scan.header.set_xyzt_units("mm")
    for field in ("descrip", "intent_name", "aux_file"):
        scan.header[field] = text.encode()[:15]
    scan.to_filename(path)
    return codes
