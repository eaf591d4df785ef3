"""Everything that is wrong with a data set, file by file, before anything runs on it."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bundle.datasets.case import Case, LabelledDataset
from bundle.errors import GeometryWarning, InputError
from bundle.io.geometry import Grid, voxel_volume
from bundle.io.read import read_voxels, voxel_digest
from bundle.labels import Label

MAX_SIZE_RATIO = 4.0
"""Between the edge of a case's voxel (cube root of its volume) and the data set's median: beyond, a unit is wrong."""
LISTED_CODES = 8
RARE_SHARE, RARE_VOXELS = 0.1, 30
"""A code in a smaller share of the cases, or with fewer voxels in all, is hardly learnt: a fold may hold out all."""


@dataclass(frozen=True, eq=False)
class StoredFile:
    """What can be had of a file: voxels (X, Y, Z), and where they lie; ``None`` for what cannot."""

    path: Path
    data: NDArray[Any] | None
    grid: Grid | None


@dataclass
class CaseFindings:
    """What the files of one case showed; ``voxel_edge`` in mm, of the image."""

    image: Path
    problems: list[InputError] = field(default_factory=list)
    voxel_edge: float | None = None
    digest: str | None = None
    counts: dict[int, int] = field(default_factory=dict)


def check_dataset(
    dataset: LabelledDataset,
    num_workers: int | None = None,
    progress: bool = True,
    warned: list[str] | None = None,
) -> list[InputError]:
    """Read every file of a data set and return all problems: those of the listing first, then case by case.

    Looked for: missing, truncated and unreadable files; volumes that are not 3D; NaN and Inf; images of one value;
    geometry that :func:`bundle.io.geometry.choose_affine` refuses; a label map with another shape or affine than its
    image; labels with fractions, without any structure, or with codes that the table lacks; voxels of quite another
    size than those of the other cases; names, files and images that are there twice.

    Args:
        dataset: see :func:`bundle.datasets.read_dataset`.
        num_workers: threads; the number of cores by default.
        progress: show a bar when the output is a terminal.
        warned: receives a line for each structure that is rare, see :func:`rare_lines`.
    """
    codes = set(dataset.channels)
    with warnings.catch_warnings(), ThreadPoolExecutor(num_workers or os.cpu_count()) as pool:
        warnings.simplefilter("ignore", GeometryWarning)  # given where the file is used
        found = pool.map(lambda case: check_case(case, codes), dataset.cases)
        bar = tqdm(found, "check", len(dataset.cases), unit="case", disable=None if progress else True)
        findings = list(bar)
    if warned is not None:
        voxels, cases = Counter[int](), Counter[int]()
        for finding in findings:
            voxels.update(finding.counts)
            cases.update(finding.counts.keys())
        warned += rare_lines(dataset.stored or dataset.table, len(findings), cases, voxels)
    problems = [*dataset.problems, *_listed_twice(dataset.cases)]
    for finding in findings:
        problems += finding.problems
    return problems + _stored_twice(findings) + _odd_sizes(findings)


def rare_lines(table: Sequence[Label], count: int, cases: Mapping[int, int], voxels: Mapping[int, int]) -> list[str]:
    """Return a line for each structure that a training will hardly learn.

    Args:
        table: the structures of the label files.
        count: number of cases.
        cases: number of those that have a code.
        voxels: voxels of a code in all of them.
    """
    lines = []
    for label in table[1:]:
        found, size = cases.get(label.code, 0), voxels.get(label.code, 0)
        if found < RARE_SHARE * count or size < RARE_VOXELS:
            where = f"in {found} of {count} cases, {size} voxels in all"
            lines.append(f"code {label.code} {label.name} is rare: {where}; merge or leave it out (label_groups)")
    return lines


def check_case(case: Case, codes: set[int]) -> CaseFindings:
    """Read the image and the labels of one case and collect what is wrong with either and with the two together.

    Args:
        case: the files.
        codes: those of the label table, background included.
    """
    findings = CaseFindings(case.image)
    image, label = (_stored(path, findings.problems) for path in (case.image, case.label))
    if image.data is not None:
        findings.digest = voxel_digest(image.data)
        findings.problems += _image_problems(image.data, image.path)
    if image.grid is not None:
        findings.voxel_edge = float(voxel_volume(image.grid.affine) ** (1 / 3))
    if label.data is not None:
        findings.problems += _label_problems(label.data, label.path, codes)
        values, counts = np.unique(label.data, return_counts=True)
        whole = np.isfinite(values) & (values == np.rint(values))
        findings.counts = {int(code): int(n) for code, n in zip(values[whole], counts[whole], strict=True)}
    findings.problems += _pair_problems(image, label)
    return findings


def _stored(path: Path, problems: list[InputError]) -> StoredFile:
    try:
        voxels = read_voxels(path)
    except InputError as error:
        problems.append(error)
        return StoredFile(path, None, None)
    try:
        grid = voxels.info.place()
    except InputError as error:
        problems.append(error)
        grid = None
    return StoredFile(path, voxels.data, grid)


def _unusable(data: NDArray[Any], path: Path) -> list[InputError]:
    count = data.size - int(np.count_nonzero(np.isfinite(data)))
    if not count:
        return []
    return [InputError(path, f"found {count} voxels that are NaN or Inf", "finite values are wanted", "intensities")]


def _image_problems(data: NDArray[Any], path: Path) -> list[InputError]:
    problems = _unusable(data, path)
    if data.min() == data.max():
        found = f"found the value {data.flat[0]:g} in every voxel"
        problems.append(InputError(path, found, "an image with contrast is wanted", "intensities"))
    return problems


def _label_problems(data: NDArray[Any], path: Path, codes: set[int]) -> list[InputError]:
    problems = _unusable(data, path)
    values = np.unique(data)
    values = values[np.isfinite(values)]
    fractions = values[values != np.rint(values)]
    if len(fractions):
        found = f"found labels that are no whole numbers ({_shown(fractions)})"
        problems.append(InputError(path, found, "integer codes are wanted", "labels"))
    whole = values[values == np.rint(values)]
    unknown = [value for value in whole if value not in codes]
    if unknown and codes:
        wanted = f"those of the label table are wanted ({_shown(sorted(codes))})"
        problems.append(InputError(path, f"found the codes {_shown(unknown)}", wanted, "labels"))
    if not whole.any() and not len(fractions):
        problems.append(InputError(path, "found no labelled voxel", "at least one structure is wanted", "labels"))
    return problems


def _pair_problems(image: StoredFile, label: StoredFile) -> list[InputError]:
    if image.data is None or label.data is None:
        return []
    differences = []
    if image.data.shape != label.data.shape:
        differences.append(f"found shape {label.data.shape} against {image.data.shape} in {image.path}")
    if image.grid is not None and label.grid is not None:
        # With the image's shape, so that another affine is named whether or not the shape is another too.
        differences.append(image.grid.difference(replace(label.grid, shape=image.grid.shape)) or "")
    return [InputError(label.path, found, "the image's grid is wanted", "grid") for found in differences if found]


def _listed_twice(cases: Sequence[Case]) -> list[InputError]:
    problems = []
    for what, paths in (("image", [case.image for case in cases]), ("label map", [case.label for case in cases])):
        seen: set[Path] = set()
        for path in (path.resolve() for path in paths):
            if path in seen:
                found = f"found the {what} in two cases"
                problems.append(InputError(path, found, "one case for each is wanted", "dataset"))
            seen.add(path)
    first: dict[str, Path] = {}
    for case in cases:
        other = first.setdefault(case.name, case.image)
        if other != case.image:
            found = f"found the name {case.name} of {other} again"
            problems.append(InputError(case.image, found, "one name for each case is wanted", "dataset"))
    return problems


def _stored_twice(findings: Iterable[CaseFindings]) -> list[InputError]:
    problems = []
    first: dict[str, Path] = {}
    for finding in findings:
        if finding.digest is not None:
            other = first.setdefault(finding.digest, finding.image)
            if other != finding.image:
                found = f"found the voxels of {other} again"
                problems.append(InputError(finding.image, found, "every image once is wanted", "dataset"))
    return problems


def _odd_sizes(findings: Sequence[CaseFindings]) -> list[InputError]:
    edges = [finding.voxel_edge for finding in findings if finding.voxel_edge is not None]
    if not edges:
        return []
    median = float(np.median(edges))
    limit = f"{median / MAX_SIZE_RATIO:.3g} to {median * MAX_SIZE_RATIO:.3g} mm is wanted, the data set's median being"
    return [
        InputError(
            finding.image,
            f"found voxels of {finding.voxel_edge:.3g} mm (cube root of the volume)",
            f"{limit} {median:.3g} mm",
            "geometry",
        )
        for finding in findings
        if finding.voxel_edge is not None and not 1 / MAX_SIZE_RATIO <= finding.voxel_edge / median <= MAX_SIZE_RATIO
    ]


def _shown(values: Sequence[float] | NDArray[Any]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:LISTED_CODES])
    return shown + (", ..." if len(values) > LISTED_CODES else "")
