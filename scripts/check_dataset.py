"""Check a set of images with labels before training on it: ``python -m scripts.check_dataset FOLDER [--statistics]``.

Reads every file and prints every problem, one a line, or, when there is none, what the data set holds. FOLDER has a
dataset.json (Medical Segmentation Decathlon, nnU-Net), BIDS subjects, imagesTr and labelsTr, or NAME_T1.nii.gz with
NAME_labels.nii.gz. The exit code is 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import TYPE_CHECKING

from bundle.errors import BundleWarning, InputError
from scripts.command import make_parser, print_error, run_program

if TYPE_CHECKING:
    from bundle.datasets import DatasetStatistics, LabelledDataset
    from bundle.datasets.statistics import Extent, Intensities


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("check_dataset", __doc__)
    parser.add_argument("folder", metavar="FOLDER", help="the data set")
    parser.add_argument("--statistics", action="store_true", help="print intensities and voxels of each structure too")
    parser.add_argument(
        "--cache-dir", metavar="DIR", help="keep the statistics there, and read them from there while no file changes"
    )
    parser.add_argument("--num-workers", type=int, metavar="N", help="threads (default: the number of cores)")
    return parser.parse_args(arguments)


def print_grid(spacing: Extent, shape: Extent) -> None:
    """Print the smallest, median and largest spacing and shape."""
    print(f"{'':14}{'smallest':>20}{'median':>20}{'largest':>20}")
    for name, extent in (("spacing (mm)", spacing), ("shape (voxels)", shape)):
        values = (extent.minimum, extent.median, extent.maximum)
        print(f"{name:14}" + "".join(f"{' x '.join(f'{value:.4g}' for value in triple):>20}" for triple in values))


def print_intensities(name: str, intensities: Intensities) -> None:
    """Print the intensities of a region."""
    percentiles = ", ".join(f"{q} %: {value:.4g}" for q, value in intensities.percentiles.items())
    print(f"{name}: mean {intensities.mean:.4g}, sd {intensities.sd:.4g}, percentiles {percentiles}")


def print_statistics(dataset: LabelledDataset, statistics: DatasetStatistics) -> None:
    """Print spacing, shape, intensities, and the voxels of each structure."""
    print_grid(statistics.spacing, statistics.shape)
    print_intensities("intensities, all voxels", statistics.image)
    print_intensities("intensities, labelled voxels", statistics.foreground)
    total = sum(statistics.class_voxels.values())
    print(f"{'code':>6}  {'voxels':>12}  {'share':>9}  {'cases':>6}  {'median and largest box (mm)':>36}  name")
    for label in dataset.stored or dataset.table:
        voxels, cases = statistics.class_voxels[str(label.code)], statistics.class_cases[str(label.code)]
        extent = statistics.class_extents.get(str(label.code))
        boxes = (" x ".join(f"{mm:.3g}" for mm in box) for box in (extent.median, extent.maximum)) if extent else ()
        print(f"{label.code:6}  {voxels:12}  {voxels / total:9.4%}  {cases:6}  {', '.join(boxes):>36}  {label.name}")


def run(options: argparse.Namespace) -> int:
    """Print problems or a summary, and return the number of problems."""
    from bundle.datasets import check_dataset, compute_statistics, dataset_statistics, grid_extents, read_dataset

    dataset = read_dataset(options.folder)
    warned: list[str] = []
    problems = check_dataset(dataset, options.num_workers, warned=warned)
    for line in warned:
        warnings.warn(line, BundleWarning, stacklevel=2)
    for problem in problems:
        print(problem)
    if problems:
        count = f"found {len(problems)} problem{'s' if len(problems) > 1 else ''}"
        print_error(InputError(options.folder, count, "none is wanted", "dataset"))
        return len(problems)
    names = ", ".join(f"{label.code} {label.name}" for label in dataset.table)
    print(f"{options.folder}: {len(dataset.cases)} cases, no problem found")
    print(f"labels: {names}")
    if dataset.modality:
        print(f"modality: {dataset.modality}")
    if not options.statistics and options.cache_dir is None:
        print_grid(*grid_extents(dataset))
        return 0
    if options.cache_dir is None:
        statistics = compute_statistics(dataset, options.num_workers)
    else:
        statistics = dataset_statistics(dataset, options.cache_dir, options.num_workers)
    print_statistics(dataset, statistics)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
