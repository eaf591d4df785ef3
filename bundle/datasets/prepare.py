"""What a training asks of a data set before it starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from bundle.datasets.case import LabelledDataset
from bundle.datasets.check import check_dataset, rare_lines
from bundle.datasets.facts import dataset_facts
from bundle.datasets.folds import split_cases
from bundle.datasets.layout import list_cases, read_dataset
from bundle.datasets.statistics import cached_statistics, dataset_statistics
from bundle.errors import DatasetError
from bundle.label_groups import Groups
from bundle.labels import check_trainable
from bundle.model import check_same_training

logger = logging.getLogger(__name__)


def prepare_dataset(
    folder: str | Path,
    output_dir: str | Path,
    num_workers: int | None = None,
    restart: bool = False,
    groups: Groups | None = None,
    ignore: Sequence[int] = (),
) -> LabelledDataset:
    """List a data set, stop on any problem, and leave its statistics in the folder of the training.

    The files are read again only when one of them changed since the statistics in ``output_dir`` were computed.

    Args:
        folder: the data set.
        output_dir: receives ``dataset_statistics.json``.
        num_workers: threads; the number of cores by default.
        restart: whether a training of another data set in ``output_dir`` may be replaced.
        groups: codes by structure, see :mod:`bundle.label_groups`; ``None`` takes the data set's structures.
        ignore: codes of voxels that nobody labelled, beside those that the data set names.

    Raises:
        DatasetError: when anything is wrong with the data set, after logging a line for each problem.
        InputError: when the folder is no data set.
        TrainingError: when ``output_dir`` holds a training of another data set.
    """
    dataset = read_dataset(folder).grouped(groups, ignore)
    check_trainable(dataset.table, folder)
    if dataset.problems or not _was_sound(dataset, output_dir):
        problems = check_dataset(dataset, num_workers)
        for problem in problems:
            logger.error(problem)
        if problems:
            raise DatasetError(folder, problems)
    check_same_training(output_dir, {"dataset_dir": dataset_facts(dataset).value}, restart)
    statistics = dataset_statistics(dataset, output_dir, num_workers)
    logger.info(
        f"{folder}: {statistics.cases} cases, {len(dataset.table) - 1} structures, "
        f"median spacing {statistics.spacing.median} mm, median shape {statistics.shape.median}"
    )
    counts = (
        {int(code): n for code, n in found.items()} for found in (statistics.class_cases, statistics.class_voxels)
    )
    for line in rare_lines(dataset.stored or dataset.table, statistics.cases, *counts):
        logger.warning(line)
    return dataset


def fold_datalist(
    folder: str | Path, fold: int | str, num_folds: int = 5, splits_file: str | Path | None = None
) -> list[dict[str, str]]:
    """Return ``[{"image": path, "label": path}, ...]`` of the cases that a fold holds out, for ``evaluate.json``.

    Args:
        folder: the data set.
        fold: as for :func:`bundle.datasets.split_cases`.
        num_folds: likewise.
        splits_file: likewise.

    Raises:
        InputError: as :func:`bundle.datasets.list_cases`, and where there is no such fold.
    """
    split = split_cases(list_cases(folder), fold, num_folds, splits_file=splits_file)
    return [case.item() for case in split.val]


def _was_sound(dataset: LabelledDataset, output_dir: str | Path) -> bool:
    try:
        return cached_statistics(dataset, output_dir) is not None
    except FileNotFoundError:  # a file of the data set
        return False
