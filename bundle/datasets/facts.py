"""What a data set is, in a line: how many cases, which files, whose licence; the same wherever it lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.datasets.case import LabelledDataset
from bundle.model.fingerprint import files_digest
from bundle.synthesis import find_label_maps


@dataclass(frozen=True)
class DataFacts:
    """What a training is on.

    Attributes:
        name: of the folder.
        cases: number of cases.
        digest: short hash of its files, see :func:`bundle.model.fingerprint.files_digest`.
        modality: what the data set says that its images are.
        licence: what it says of its licence.
    """

    name: str
    cases: int
    digest: str
    modality: str = ""
    licence: str = ""

    @property
    def value(self) -> str:
        """The data set as a value that can be compared and shown."""
        return f"{self.cases} cases ({self.digest})"

    def record(self) -> dict[str, Any]:
        """Return what ``model.json`` says of it."""
        return {"name": self.name, "cases": self.cases, "sha256": self.digest, "modality": self.modality}


def dataset_facts(dataset: LabelledDataset) -> DataFacts:
    """Return the facts of a data set whose files are all there."""
    digest = files_digest(dataset.folder, *zip(*((case.image, case.label) for case in dataset.cases), strict=True))
    name = dataset.folder.resolve().name
    return DataFacts(name, len(dataset.cases), digest, dataset.modality, dataset.licence)


def label_map_facts(folder: str | Path, paths: Sequence[str | Path] | None = None) -> DataFacts:
    """Return the facts of a folder of label maps, from which images are drawn.

    Args:
        folder: where they lie.
        paths: the files; all of the folder by default.
    """
    files = [Path(path) for path in (find_label_maps(folder) if paths is None else paths)]
    return DataFacts(Path(folder).resolve().name, len(files), files_digest(folder, [], files), "label maps")
