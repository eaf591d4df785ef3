"""Small scans and a tiny model, made by code, and outcomes without either."""

from __future__ import annotations

from pathlib import Path

from bundle.cohort.messages import DONE, FAILED, Case, Outcome, Result
from bundle.cohort.rows import Row
from tests.labelled import make_pair, write_nifti
from tests.model_folder import write_folder

SHAPE = (24, 24, 24)


def write_scans(folder: Path, count: int, bad: int = 0) -> list[Path]:
    """Write scans ``scan0.nii.gz`` and so on, the last of them truncated."""
    paths = [folder / f"scan{number}.nii.gz" for number in range(count)]
    for number, path in enumerate(paths):
        write_nifti(path, make_pair(number, SHAPE)[0])
        if number >= count - bad:
            path.write_bytes(path.read_bytes()[:5000])
    return paths


def options(folder: Path) -> list[str]:
    """Return the options of a program that segments with a tiny model, which is written into ``folder/model``."""
    if not (folder / "model").exists():
        write_folder(folder / "model")
    return ["--model", str(folder / "model"), "--precision", "float32", "--engine", "torch", "--device", "cpu"]


def outcome(name: str, volume: float | None = 100.0, asymmetry: float = 0.0, **changes: object) -> Outcome:
    """Return the outcome of a scan with one pair of structures; of none where there is no volume."""
    if volume is None:
        return Outcome(Case(name, f"/scans/{name}.nii.gz"), Result(FAILED, None, "damaged", "found\ta\nhalf"), "1", 2)
    row = Row(1.5, 2_000_000, "0.1", ("small",), None, {}, {"Left-A": volume, "Right-A": volume}, {"A": asymmetry})
    return Outcome(Case(name, f"/scans/{name}.nii.gz"), Result(DONE, row, **changes), "0", 1)
