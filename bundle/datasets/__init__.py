"""Your own data: images with labels, found, checked, measured, split and handed to a training."""

from bundle.datasets.case import Case, LabelledDataset
from bundle.datasets.check import check_dataset
from bundle.datasets.facts import DataFacts, dataset_facts, label_map_facts
from bundle.datasets.folds import Split, make_folds, read_folds, split_cases, write_folds
from bundle.datasets.layout import find_pairs, list_cases, read_dataset
from bundle.datasets.paired import CaseDataset, PairedDataset
from bundle.datasets.prepare import fold_datalist, prepare_dataset
from bundle.datasets.statistics import DatasetStatistics, compute_statistics, dataset_statistics, grid_extents
from bundle.errors import DatasetError

__all__ = [
    "Case",
    "CaseDataset",
    "DataFacts",
    "DatasetError",
    "DatasetStatistics",
    "LabelledDataset",
    "PairedDataset",
    "Split",
    "check_dataset",
    "compute_statistics",
    "dataset_facts",
    "dataset_statistics",
    "find_pairs",
    "fold_datalist",
    "grid_extents",
    "label_map_facts",
    "list_cases",
    "make_folds",
    "prepare_dataset",
    "read_dataset",
    "read_folds",
    "split_cases",
    "write_folds",
]
