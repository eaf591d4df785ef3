"""Intensities, spacings, shapes and class sizes of a data set, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from tqdm import tqdm

from bundle.datasets.case import Case, LabelledDataset
from bundle.errors import GeometryWarning, InputError
from bundle.io.inspect import Inspection, inspect_volume
from bundle.io.read import read_voxels
from bundle.io.whole import whole_file

FILE_NAME = "dataset_statistics.json"
FORMAT = 2
"""Part of the key of the cache: raised when what is computed changes."""
PERCENTILES = (0.5, 5, 25, 50, 75, 95, 99.5)
SAMPLED_VOXELS = 50_000
"""Of each case and region; percentiles are of these. Smaller cases count in full, larger ones are drawn from."""


@dataclass(frozen=True)
class Intensities:
    """Of all voxels of a region: ``mean``, ``sd`` and range; ``percentiles`` by number, such as ``"99.5"``."""

    voxels: int
    mean: float
    sd: float
    minimum: float
    maximum: float
    percentiles: dict[str, float]


@dataclass(frozen=True)
class Extent:
    """Smallest, median and largest value along right, anterior and superior."""

    minimum: tuple[float, ...]
    median: tuple[float, ...]
    maximum: tuple[float, ...]


@dataclass(frozen=True)
class DatasetStatistics:
    """What a data set is like.

    Attributes:
        cases: number of cases.
        image: intensities of all voxels.
        foreground: intensities of the voxels with a label other than 0.
        spacing: mm.
        shape: voxels.
        class_voxels: voxels of each code over all cases, by code as text.
        class_cases: cases that have the code, by code as text.
        class_extents: mm of the box around a structure, over the cases that have it, by code as text.
    """

    cases: int
    image: Intensities
    foreground: Intensities
    spacing: Extent
    shape: Extent
    class_voxels: dict[str, int]
    class_cases: dict[str, int]
    class_extents: dict[str, Extent]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> DatasetStatistics:
        """Restore what ``dataclasses.asdict`` gave, lists for tuples and all."""
        regions = {key: Intensities(**content[key]) for key in ("image", "foreground")}
        extents = {key: _restored(content[key]) for key in ("spacing", "shape")}
        boxes = {code: _restored(extent) for code, extent in content["class_extents"].items()}
        return cls(**{**content, **regions, **extents, "class_extents": boxes})


@dataclass(frozen=True, eq=False)
class _Region:
    """Sums over the voxels of one region of one case, and a sample of them."""

    voxels: int
    mean: float
    squares: float  # sum of squared deviations from the mean
    minimum: float
    maximum: float
    sample: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[Any], seed: int) -> _Region:
        values = values.astype(np.float64)
        if not values.size:
            return cls(0, 0.0, 0.0, np.inf, -np.inf, values)
        sample = values
        if values.size > SAMPLED_VOXELS:
            sample = values[np.random.default_rng(seed).integers(values.size, size=SAMPLED_VOXELS)]
        mean = float(values.mean())
        squares = float(((values - mean) ** 2).sum())
        return cls(values.size, mean, squares, float(values.min()), float(values.max()), sample)


@dataclass(frozen=True, eq=False)
class _CaseStatistics:
    image: _Region
    foreground: _Region
    spacing: NDArray[np.float64]
    shape: NDArray[np.int64]
    class_voxels: dict[int, int]
    boxes: dict[int, NDArray[np.float64]]  # mm along right, anterior and superior


def _restored(content: dict[str, Any]) -> Extent:
    return Extent(**{name: tuple(values) for name, values in content.items()})


def dataset_statistics(
    dataset: LabelledDataset, cache_dir: str | Path, num_workers: int | None = None
) -> DatasetStatistics:
    """Return the statistics of a sound data set; they are computed again only when a file of it changed.

    Args:
        dataset: all of its problems mended, see :func:`bundle.datasets.check_dataset`.
        cache_dir: folder of ``dataset_statistics.json``, not within the data set; made when missing.
        num_workers: threads; the number of cores by default.

    Raises:
        InputError: when a file cannot be used, or ``cache_dir`` lies within the data set.
    """
    cached = cached_statistics(dataset, cache_dir)
    if cached is not None:
        return cached
    statistics = compute_statistics(dataset, num_workers)
    content = {"fingerprint": fingerprint(dataset), "statistics": asdict(statistics)}
    with whole_file(Path(cache_dir) / FILE_NAME, overwrite=True) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return statistics


def cached_statistics(dataset: LabelledDataset, cache_dir: str | Path) -> DatasetStatistics | None:
    """Return the statistics that are kept in ``cache_dir`` for the data set as it is now, or ``None``.

    Raises:
        InputError: when ``cache_dir`` lies within the data set.
    """
    if Path(cache_dir).resolve().is_relative_to(dataset.folder.resolve()):
        raise InputError(cache_dir, "lies within the data set", "a folder outside is wanted", "write")
    try:
        content = json.loads((Path(cache_dir) / FILE_NAME).read_text(encoding="utf-8"))
        if content["fingerprint"] == fingerprint(dataset):
            return DatasetStatistics.from_json(content["statistics"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # missing, or not one of ours: computed anew
    return None


def fingerprint(dataset: LabelledDataset) -> str:
    """Return a hash of the label table and of the name, size and time of change of every file."""
    files = sorted({path for case in dataset.cases for path in (case.image, case.label)})
    states = [
        (os.path.relpath(path, dataset.folder), stat.st_size, stat.st_mtime_ns)
        for path in files
        if (stat := path.stat())
    ]
    labels = [(label.code, label.name) for label in dataset.stored or dataset.table]
    return hashlib.sha256(json.dumps([FORMAT, SAMPLED_VOXELS, labels, states]).encode()).hexdigest()


def compute_statistics(dataset: LabelledDataset, num_workers: int | None = None) -> DatasetStatistics:
    """Read every file and return the statistics.

    Raises:
        InputError: when a file cannot be used.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(num_workers or os.cpu_count()) as pool:
        warnings.simplefilter("ignore", GeometryWarning)
        found = pool.map(_case_statistics, dataset.cases)
        cases = list(tqdm(found, "statistics", len(dataset.cases), unit="case", disable=None))
    voxels: Counter[int] = Counter()
    presence: Counter[int] = Counter()
    for case in cases:
        voxels.update(case.class_voxels)
        presence.update(case.class_voxels.keys())
    codes = [label.code for label in dataset.stored or dataset.table]
    return DatasetStatistics(
        cases=len(cases),
        image=_merged([case.image for case in cases]),
        foreground=_merged([case.foreground for case in cases]),
        spacing=_extent([case.spacing for case in cases]),
        shape=_extent([case.shape for case in cases]),
        class_voxels={str(code): voxels[code] for code in codes},
        class_cases={str(code): presence[code] for code in codes},
        class_extents={
            str(code): _extent([case.boxes[code] for case in cases if code in case.boxes])
            for code in codes
            if code and presence[code]
        },
    )


def grid_extents(dataset: LabelledDataset) -> tuple[Extent, Extent]:
    """Return spacing (mm) and shape (voxels) over all images from their headers alone.

    Raises:
        InputError: when a file cannot be used.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeometryWarning)
        grids = [_grid(inspect_volume(case.image)) for case in dataset.cases]
    return _extent([spacing for spacing, _ in grids]), _extent([shape for _, shape in grids])


def _grid(info: Inspection) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return spacing and shape along right, anterior and superior."""
    grid = info.place()
    order = np.argsort(nib.io_orientation(grid.affine)[:, 0])  # the file's axis that lies along each
    return grid.spacing[order], np.array(grid.shape)[order]


def _case_statistics(case: Case) -> _CaseStatistics:
    image, label = read_voxels(case.image), read_voxels(case.label).data
    spacing, shape = _grid(image.info)
    seed = crc32(case.name.encode())
    codes, counts = np.unique(label, return_counts=True)
    order = np.argsort(nib.io_orientation(image.info.place().affine)[:, 0])
    found = find_objects(np.searchsorted(codes, label) + 1)  # by place among the codes, which may be large
    sizes = (np.array([side.stop - side.start for side in box])[order] * spacing for box in found if box)
    return _CaseStatistics(
        image=_Region.of(image.data.ravel(), seed),
        foreground=_Region.of(image.data[label != 0], seed),
        spacing=spacing,
        shape=shape,
        class_voxels={int(code): int(count) for code, count in zip(codes, counts, strict=True)},
        boxes={int(code): size for code, size in zip(codes, sizes, strict=True)},
    )


def _merged(regions: Sequence[_Region]) -> Intensities:
    voxels = sum(region.voxels for region in regions)
    mean = sum(region.voxels * region.mean for region in regions) / voxels
    squares = sum(region.squares + region.voxels * (region.mean - mean) ** 2 for region in regions)
    sample = np.concatenate([region.sample for region in regions])
    quantiles = np.percentile(sample, PERCENTILES)
    return Intensities(
        voxels=voxels,
        mean=mean,
        sd=float(np.sqrt(squares / voxels)),
        minimum=min(region.minimum for region in regions),
        maximum=max(region.maximum for region in regions),
        percentiles={f"{q:g}": float(value) for q, value in zip(PERCENTILES, quantiles, strict=True)},
    )


def _extent(values: Sequence[NDArray[Any]]) -> Extent:
    table = np.stack(values)
    smallest, median, largest = (
        tuple(round(float(value), 6) for value in row) for row in (table.min(0), np.median(table, 0), table.max(0))
    )
    return Extent(smallest, median, largest)
