"""Find the images and labels of a data set: Medical Segmentation Decathlon, nnU-Net, BIDS, or plain files by name."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bundle.datasets.bids import bids_cases, bids_label_table, is_bids
from bundle.datasets.case import Case, LabelledDataset
from bundle.datasets.plain import folder_cases, side_by_side_cases, side_by_side_table
from bundle.errors import DatasetError, InputError, MissingError
from bundle.io.names import volume_stem
from bundle.io.read import read_voxels
from bundle.label_groups import ignored_of
from bundle.labels import MAX_CHANNELS, MAX_CODE, Label, make_labels, read_labels

LAYOUTS_WANTED = (
    "a dataset.json (Medical Segmentation Decathlon, nnU-Net), BIDS subjects (sub-*/anat), the folders imagesTr and "
    "labelsTr, or files NAME_T1.nii.gz and NAME_labels.nii.gz are wanted"
)


@dataclass
class Listing:
    """What a folder says about its cases, no image and no label table opened.

    Attributes:
        cases: ordered by name.
        label_table: the file that names the structures, if there is one.
        modality: what the data set says that its images are.
        problems: what is wrong with the listing.
        licence: what the data set says of it.
        ignore: codes of voxels that nobody labelled.
    """

    cases: list[Case]
    label_table: Path | None = None
    modality: str = ""
    problems: list[InputError] = field(default_factory=list)
    licence: str = ""
    ignore: tuple[int, ...] = ()


def read_dataset(folder: str | Path) -> LabelledDataset:
    """List a data set; no image is opened.

    - ``dataset.json``: ``training`` lists images and labels relative to the folder (Medical Segmentation Decathlon);
      without it, ``imagesTr`` and ``labelsTr`` are listed (nnU-Net v2). ``labels`` names the structures.
    - BIDS: ``sub-*/[ses-*/]anat/*_T1w.nii.gz`` with ``*_dseg.nii.gz`` beside it or under ``derivatives``, names in
      ``dseg.tsv``.
    - ``imagesTr`` and ``labelsTr`` alone.
    - ``NAME_T1.nii.gz`` with ``NAME_labels.nii.gz`` in one folder, names in ``labels.tsv`` or ``dseg.tsv`` beside them.

    Without names, the structures are the codes found in the label files, which are read for it.

    Raises:
        InputError: when the folder is none of these, or its ``dataset.json`` cannot be read.
    """
    listing = _listing(Path(folder))
    problems = listing.problems
    if listing.label_table is None:
        table = _codes_as_table(listing.cases, Path(folder), problems)
    else:
        table = _read_table(listing.label_table, problems)
    found = LabelledDataset(Path(folder), listing.cases, table, listing.modality, problems, listing.licence)
    return found.grouped(None, listing.ignore)


def list_cases(folder: str | Path) -> list[Case]:
    """Return the cases of a data set in any layout of :func:`read_dataset`, for whoever has a label table already.

    No image, no label map and no label table is opened.

    Raises:
        InputError: when the folder is no data set, or its ``dataset.json`` cannot be read.
        DatasetError: when something is wrong with the listing, such as two label files for one image.
        MissingError: when an image or a label file is missing.
    """
    listing = _listing(Path(folder))
    if listing.problems:
        raise DatasetError(folder, listing.problems)
    for path in (path for case in listing.cases for path in (case.image, case.label)):
        if not path.is_file():
            raise MissingError(path, "no such file", "every image needs its labels, and labels their image")
    return listing.cases


def find_pairs(dataset_dir: str | Path) -> list[dict[str, str]]:
    """Return ``[{"image": path, "label": path}, ...]`` of a data set in any layout, see :func:`list_cases`."""
    return [case.item() for case in list_cases(dataset_dir)]


def _listing(folder: Path) -> Listing:
    if not folder.is_dir():
        raise MissingError(folder, "no such folder", LAYOUTS_WANTED)
    if (folder / "dataset.json").is_file():
        listing = _described_listing(folder / "dataset.json")
    elif is_bids(folder):
        problems: list[InputError] = []
        listing = Listing(bids_cases(folder, problems), bids_label_table(folder), "T1w", problems)
    elif cases := folder_cases(folder):
        listing = Listing(cases)
    else:
        listing = Listing(side_by_side_cases(folder), side_by_side_table(folder))
    if not listing.cases and not listing.problems:
        raise InputError(folder, "found no images with labels", LAYOUTS_WANTED, "dataset")
    listing.cases.sort(key=lambda case: case.name)
    return listing


def _described_listing(table: Path) -> Listing:
    """List what a ``dataset.json`` describes."""
    content = _read_json(table)
    problems: list[InputError] = []
    modality = _modality(content, table, problems)
    listed = content.get("training")
    cases = folder_cases(table.parent) if listed is None else _listed_cases(listed, table, problems)
    licence = content.get("licence", content.get("license"))
    return Listing(cases, table, modality, problems, licence if isinstance(licence, str) else "", ignored_of(content))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        wanted = "a data set's description is wanted"
        raise InputError(path, f"cannot be read as JSON ({error})", wanted, "dataset") from error
    if not isinstance(content, dict):
        raise InputError(path, f"found a {type(content).__name__}", "a JSON object is wanted", "dataset")
    return content


def _read_table(path: Path, problems: list[InputError]) -> list[Label]:
    try:
        return read_labels(path)
    except InputError as error:
        problems.append(error)
        return []


def _modality(content: dict[str, Any], path: Path, problems: list[InputError]) -> str:
    """Return the one modality that a ``dataset.json`` names; MSD calls it so, nnU-Net v2 says ``channel_names``."""
    named = content.get("modality", content.get("channel_names", {}))
    names = [str(name) for name in (named.values() if isinstance(named, dict) else [named])]
    if len(names) > 1:
        found = f"found {len(names)} modalities ({', '.join(names)})"
        problems.append(InputError(path, found, "one is wanted", "dataset"))
    return names[0] if names else ""


def _listed_cases(listed: Any, table: Path, problems: list[InputError]) -> list[Case]:
    """Return the cases under ``training``."""
    cases = []
    entries = listed if isinstance(listed, list) else [listed]
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("image", "label")):
            found = f"found {json.dumps(entry)[:80]} as training entry {number}"
            problems.append(InputError(table, found, "an object with an image and a label is wanted", "dataset"))
            continue
        image = table.parent / entry["image"]
        name = volume_stem(image)
        cases.append(Case(name, image, table.parent / entry["label"], name))
    return cases


def _codes_as_table(cases: list[Case], folder: Path, problems: list[InputError]) -> list[Label]:
    """Name the structures of a data set without a table after the codes that its label files hold."""

    def codes(case: Case) -> set[int]:
        try:
            values = np.unique(read_voxels(case.label).data)
        except InputError:
            return set()  # the check lists it
        return {int(value) for value in values if np.isfinite(value) and value == int(value)}

    if not cases:
        return []
    with ThreadPoolExecutor() as pool:
        stored = set().union(*pool.map(codes, cases))
    usable = sorted(code for code in stored if 0 < code <= MAX_CODE)
    if not 0 < len(usable) < MAX_CHANNELS:
        found = f"found {len(usable)} structures in the label files"
        problems.append(InputError(folder, found, f"1 to {MAX_CHANNELS - 1} are wanted", "labels"))
        return []
    return make_labels({code: f"label-{code}" for code in usable}, folder)
