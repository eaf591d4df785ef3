"""A BIDS data set made by code: three subjects, two sessions, runs, a T2w image, and one image that is broken."""

from __future__ import annotations

import json
from pathlib import Path

from tests.labelled import make_pair, write_nifti

SHAPE = (24, 24, 24)
BROKEN = "sub-03_ses-b_T1w"
T2W = "sub-01_ses-a_T2w"


def write_bids_set(folder: Path) -> list[str]:
    """Write the set and return the names of its T1w images, in order."""
    names = []
    for subject in ("01", "02", "03"):
        for session in ("a", "b"):
            for run in ("_acq-x_run-1", "_acq-x_run-2") if (subject, session) == ("02", "a") else ("",):
                name = f"sub-{subject}_ses-{session}{run}_T1w"
                write_nifti(folder / place(name), make_pair(len(names), SHAPE)[0])
                names.append(name)
    write_nifti(folder / place(T2W), make_pair(99, SHAPE)[0])
    broken = folder / place(BROKEN)
    broken.write_bytes(broken.read_bytes()[:3000])
    description = {"Name": "made", "BIDSVersion": "1.9.0", "License": "CC0", "Authors": ["A", "B"]}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    (folder / "README").write_text(
        "Made by code, of three subjects with two sessions each, to test what reads BIDS.\n" * 3
    )
    (folder / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\nsub-03\n")
    return names


def place(name: str) -> str:
    """Return where an image lies in the set."""
    subject, session = name.split("_")[:2]
    return f"{subject}/{session}/anat/{name}.nii.gz"
