"""Small sets of images with labels, made by code in the layouts that people keep theirs in."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (14, 16, 12)
CODES = (0, 3, 7)
NAMES = {0: "background", 3: "Inner", 7: "Outer"}


def affine_of(spacing: float = 1.0, origin: float = 0.0) -> np.ndarray:
    """Return the affine of an RAS grid in mm."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def make_pair(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Return an image, float32, and labels, uint8: a ball of code 3 in a shell of code 7, somewhere near the centre."""
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-1, 1, 3)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    distance = np.linalg.norm(places - centre, axis=-1)
    label = np.select([distance < 2.6, distance < 4.5], [3, 7], 0).astype(np.uint8)
    image = np.array([20, 0, 0, 100, 0, 0, 0, 60], dtype=np.float32)[label] + rng.normal(0, 5, shape).astype(np.float32)
    return image.astype(np.float32), label


def write_nifti(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a volume, on a grid of 1 mm by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(data, affine_of() if affine is None else affine).to_filename(path)
    return path


def write_pair(image: Path, label: Path, seed: int, affine: np.ndarray | None = None) -> None:
    """Write an image and its labels."""
    for path, data in zip((image, label), make_pair(seed), strict=True):
        write_nifti(path, data, affine)


def write_dataset_json(folder: Path, names: list[str], **content: object) -> Path:
    """Write a ``dataset.json`` as the Medical Segmentation Decathlon has it."""
    training = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    labels = {str(code): name for code, name in NAMES.items()}
    table = {"name": "made", "modality": {"0": "MRI"}, "labels": labels, "training": training}
    path = folder / "dataset.json"
    path.write_text(json.dumps(table | content))
    return path


def write_msd(folder: Path, cases: int = 6) -> list[str]:
    """Write a data set of the Medical Segmentation Decathlon's form and return the names of its cases."""
    names = [f"case_{number:02d}" for number in range(cases)]
    for number, name in enumerate(names):
        write_pair(folder / "imagesTr" / f"{name}.nii.gz", folder / "labelsTr" / f"{name}.nii.gz", number)
    write_dataset_json(folder, names)
    return names


def write_bids(folder: Path, derivatives: bool = True) -> None:
    """Write two subjects with two sessions and one without, labels beside the images or under ``derivatives``."""
    sessions = [(subject, session) for subject in ("01", "02") for session in ("a", "b")] + [("03", None)]
    for seed, (subject, session) in enumerate(sessions):
        place = Path(f"sub-{subject}", *([f"ses-{session}"] if session else []), "anat")
        stem = f"sub-{subject}" + (f"_ses-{session}" if session else "")
        labels = folder / "derivatives" / "manual" if derivatives else folder
        write_pair(folder / place / f"{stem}_T1w.nii.gz", labels / place / f"{stem}_dseg.nii.gz", seed)
    rows = [f"{code}\t{name}\n" for code, name in NAMES.items()]
    (folder / "dseg.tsv").write_text("index\tname\n" + "".join(rows))
    (folder / "dataset_description.json").write_text("{}")


def write_nnunet(folder: Path, cases: int = 6) -> list[str]:
    """Write a data set of nnU-Net's form: no list of cases, codes by name, images with the number of their channel."""
    names = write_msd(folder, cases)
    for name in names:
        (folder / "imagesTr" / f"{name}.nii.gz").rename(folder / "imagesTr" / f"{name}_0000.nii.gz")
    labels = {name: code for code, name in NAMES.items()}
    table = {"channel_names": {"0": "T1"}, "labels": labels, "numTraining": cases}
    (folder / "dataset.json").write_text(json.dumps(table))
    return names


def write_folders(folder: Path, cases: int = 6) -> list[str]:
    """Write ``imagesTr`` and ``labelsTr`` alone."""
    names = write_msd(folder, cases)
    (folder / "dataset.json").unlink()
    return names


def write_side_by_side(folder: Path, cases: int = 6) -> list[str]:
    """Write ``NAME_T1.nii.gz`` with ``NAME_labels.nii.gz``."""
    names = [f"case_{number:02d}" for number in range(cases)]
    for number, name in enumerate(names):
        write_pair(folder / f"{name}_T1.nii.gz", folder / f"{name}_labels.nii.gz", number)
    return names


LAYOUTS = (write_msd, write_nnunet, write_bids, write_folders, write_side_by_side)
"""A writer for each layout that a data set may have."""
