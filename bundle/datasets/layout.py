"""Find the images and labels of a data set: Medical Segmentation Decathlon, nnU-Net, BIDS, or two plain folders."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bundle.datasets.bids import bids_cases, bids_label_table, is_bids
from bundle.datasets.case import Case, LabelledDataset
from bundle.errors import InputError
from bundle.io.names import SUFFIXES, volume_stem, volume_suffix
from bundle.io.read import read_voxels
from bundle.labels import MAX_CHANNELS, MAX_CODE, Label, make_labels, read_labels

LAYOUTS_WANTED = (
    "a dataset.json (Medical Segmentation Decathlon, nnU-Net), BIDS subjects (sub-*/anat) or the folders imagesTr and "
    "labelsTr are wanted"
)
CHANNEL_SUFFIX = "_0000"
"""What nnU-Net adds to the name of a case for its first channel."""


def read_dataset(folder: str | Path) -> LabelledDataset:
    """List a data set; no image is opened.

    - ``dataset.json``: ``training`` lists images and labels relative to the folder (Medical Segmentation Decathlon);
      without it, ``imagesTr`` and ``labelsTr`` are listed (nnU-Net v2). ``labels`` names the structures.
    - BIDS: ``sub-*/[ses-*/]anat/*_T1w.nii.gz`` with ``*_dseg.nii.gz`` beside it or under ``derivatives``, names in
      ``dseg.tsv``.
    - ``imagesTr`` and ``labelsTr`` alone.

    Without names, the structures are the codes found in the label files, which are read for it.

    Raises:
        InputError: when the folder is none of these, or its ``dataset.json`` cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "no such folder", LAYOUTS_WANTED)
    table = folder / "dataset.json"
    problems: list[InputError] = []
    modality = ""
    if table.is_file():
        content = _read_json(table)
        modality = _modality(content, table, problems)
        listed = content.get("training")
        cases = _plain_cases(folder) if listed is None else _listed_cases(listed, table, problems)
        labels = _labels(table, problems)
    elif is_bids(folder):
        modality = "T1w"
        cases = bids_cases(folder, problems)
        named = bids_label_table(folder)
        labels = _labels(named, problems) if named else _labels_in_files(cases, folder, problems)
    else:
        cases = _plain_cases(folder)
        labels = _labels_in_files(cases, folder, problems) if cases else []
    if not cases and not problems:
        raise InputError(folder, "found no images with labels", LAYOUTS_WANTED)
    return LabelledDataset(folder, sorted(cases, key=lambda case: case.name), labels, modality, problems)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, f"cannot be read as JSON ({error})", "a data set's description is wanted") from error
    if not isinstance(content, dict):
        raise InputError(path, f"found a {type(content).__name__}", "a JSON object is wanted")
    return content


def _labels(path: Path, problems: list[InputError]) -> list[Label]:
    try:
        return read_labels(path)
    except ValueError as error:
        problems.append(InputError(path, str(error).removeprefix(f"{path}: ").rstrip("."), "a label table is wanted"))
        return []


def _modality(content: dict[str, Any], path: Path, problems: list[InputError]) -> str:
    """Return the one modality that a ``dataset.json`` names; MSD calls it so, nnU-Net v2 says ``channel_names``."""
    named = content.get("modality", content.get("channel_names", {}))
    names = [str(name) for name in (named.values() if isinstance(named, dict) else [named])]
    if len(names) > 1:
        problems.append(InputError(path, f"found {len(names)} modalities ({', '.join(names)})", "one is wanted"))
    return names[0] if names else ""


def _listed_cases(listed: Any, table: Path, problems: list[InputError]) -> list[Case]:
    """Return the cases under ``training``."""
    cases = []
    entries = listed if isinstance(listed, list) else [listed]
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("image", "label")):
            found = f"found {json.dumps(entry)[:80]} as training entry {number}"
            problems.append(InputError(table, found, "an object with an image and a label is wanted"))
            continue
        image = table.parent / entry["image"]
        name = volume_stem(image)
        cases.append(Case(name, image, table.parent / entry["label"], name))
    return cases


def _plain_cases(folder: Path) -> list[Case]:
    """Pair ``imagesTr`` and ``labelsTr`` by name; a missing partner is given as the file that was looked for."""
    images, labels = (
        {
            volume_stem(path): path
            for path in sorted((folder / name).glob("*"))
            if volume_suffix(path) and path.is_file() and not path.name.startswith(".")
        }
        for name in ("imagesTr", "labelsTr")
    )
    # nnU-Net: CASE_0000.nii.gz belongs to CASE.nii.gz
    images = {stem if stem in labels else stem.removesuffix(CHANNEL_SUFFIX): path for stem, path in images.items()}
    return [
        Case(
            name,
            images.get(name, folder / "imagesTr" / f"{name}{SUFFIXES[0]}"),
            labels.get(name, folder / "labelsTr" / f"{name}{SUFFIXES[0]}"),
            name,
        )
        for name in sorted({*images, *labels})
    ]


def _labels_in_files(cases: list[Case], folder: Path, problems: list[InputError]) -> list[Label]:
    """Name the structures of a data set without a table after the codes that its label files hold."""

    def codes(case: Case) -> set[int]:
        try:
            values = np.unique(read_voxels(case.label).data)
        except InputError:
            return set()  # the check lists it
        return {int(value) for value in values if np.isfinite(value) and value == int(value)}

    with ThreadPoolExecutor() as pool:
        found = set().union(*pool.map(codes, cases))
    usable = sorted(code for code in found if 0 < code <= MAX_CODE)
    if not 0 < len(usable) < MAX_CHANNELS:
        wanted = f"1 to {MAX_CHANNELS - 1} are wanted"
        problems.append(InputError(folder, f"found {len(usable)} structures in the label files", wanted))
        return []
    return make_labels({code: f"label-{code}" for code in usable}, folder)
