"""Which prediction belongs to which reference, told by the names of the files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.bids.entities import is_bids_root
from bundle.datasets import list_cases
from bundle.datasets.bids import bids_cases
from bundle.errors import BundleWarning, InputError, OptionError
from bundle.evaluation.names import IMAGE_SUFFIXES, LABEL_SUFFIXES, without
from bundle.evaluation.sides import ALL_CASES, HELD_OUT, chosen_names, seen_line
from bundle.io.label_map import check_same_grid, read_grid
from bundle.io.names import is_volume, volume_stem
from bundle.model import Model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """A prediction, its reference, and the name of the case: the reference's, without what marks it as a label map."""

    case: str
    prediction: Path
    reference: Path


def pair_label_maps(
    prediction: str | Path,
    reference: str | Path,
    chosen: Callable[[Sequence[str]], Collection[str] | None] | None = None,
    partial: bool = False,
) -> list[Pair]:
    """Pair two files, or the label maps of two folders by name.

    A prediction is ``NAME.nii.gz``, ``NAME_seg.nii.gz``, or ``NAME/NAME_seg.nii.gz`` as ``scripts.segment`` writes it;
    a reference is ``NAME.nii.gz`` or has one of ``LABEL_SUFFIXES``. Names are compared without these suffixes, and
    what finds no partner once more without ``IMAGE_SUFFIXES``: ``1000_T1/1000_T1_seg.nii.gz`` belongs to
    ``1000_labels.nii.gz``. Scans among the references are passed over. Of a BIDS data set or derivative, the ``_dseg``
    files of its subjects are taken, or those that its derivatives have for its images.

    Args:
        prediction: a file or a folder.
        reference: a file or a folder.
        chosen: given the names of all references, those that are to be scored; ``None`` for all.
        partial: leave out what has no partner, as long as anything has one.

    Raises:
        InputError: when a file has no partner (all of them are named), two files have one name, or nothing is there.
    """
    sides = Path(prediction), Path(reference)
    if all(path.is_file() for path in sides):
        return [Pair(case_name(sides[1]), *sides)]
    for path, other in (sides, sides[::-1]):
        if not path.is_dir():
            found = "found a file" if path.is_file() else "no such file or folder"
            wanted = f"a folder is wanted, as {other} is one" if other.is_dir() else "two files or folders are wanted"
            raise InputError(path, found, wanted, "pairs" if path.is_file() else "missing")
    predictions = _by_case(sides[0], _predictions(sides[0]))
    references = _by_case(sides[1], _references(sides[1]))
    partners = _match(predictions, references)
    kept = chosen(sorted(references)) if chosen else None
    if kept is not None:
        spare = {partners[name] for name in references if name not in kept and name in partners}
        predictions = {name: path for name, path in predictions.items() if name not in spare}
        references = {name: path for name, path in references.items() if name in kept}
    if not partial or not any(name in partners for name in references):
        _check_complete(sides, predictions, references, partners)
    return [
        Pair(case, predictions[partners[case]], references[case]) for case in sorted(references) if case in partners
    ]


def evaluation_items(
    datalist: Sequence[Mapping[str, Any]] | None,
    dataset_dir: str | Path,
    assume_affine: bool = False,
    model: Model | None = None,
    cases: str = HELD_OUT,
) -> list[dict[str, str]]:
    """Return ``[{"image": path, "reference": path}, ...]`` for ``configs/evaluate.json``, every pair on one grid.

    The label goes by another name, since MONAI's evaluator replaces ``label`` by the tensor that it does not find.
    Warns of cases that the model was trained on.

    Args:
        datalist: items with ``image`` and ``label``; None stands for cases of the folder. A relative path that does not
            exist, but does in ``dataset_dir``, is taken from there.
        dataset_dir: a data set in any layout of :func:`bundle.datasets.read_dataset`, whose label table is not asked.
        assume_affine: accept headers without sform and qform.
        model: what predicts.
        cases: which of the folder's: ``"held_out"`` stands for those that the model's training held out, where it
            knows, and else for all; ``"all"``.

    Raises:
        InputError: when the folder is no data set, an item or a case lacks one of the two, a file cannot be used, or an
            image and its label lie on different grids.
        OptionError: for other ``cases``, or a list without a pair.
    """
    if cases not in (HELD_OUT, ALL_CASES):
        raise OptionError("cases", f"found {cases!r}", f"{HELD_OUT} or {ALL_CASES} is wanted")
    names: list[str] = []
    if datalist is None:
        listed = list_cases(dataset_dir)
        wanted = chosen_names([case.name for case in listed], model, cases)
        if wanted is not None:
            message = f"{len(wanted)} of {len(listed)} cases are scored, those that the training held out"
            logger.info(f"{message}; --cases {ALL_CASES} scores all")
        listed = [case for case in listed if wanted is None or case.name in wanted]
        names, datalist = [case.name for case in listed], [case.item() for case in listed]
    items = []
    for entry in datalist:
        if not isinstance(entry, Mapping) or not {"image", "label"} <= entry.keys():
            raise OptionError("datalist", f"found the item {entry!r}", "items with an image and a label are wanted")
        image, label = (_placed(entry[key], Path(dataset_dir)) for key in ("image", "label"))
        check_same_grid(read_grid(image, assume_affine), read_grid(label, assume_affine))
        items.append({"image": str(image), "reference": str(label)})
    if not items:
        raise OptionError("datalist", "found no entry", "at least one pair is wanted")
    if line := seen_line(names or [volume_stem(item["image"]) for item in items], model):
        warnings.warn(line, BundleWarning, stacklevel=2)
    return items


def case_name(path: str | Path) -> str:
    """Return a label map's name without extension and without the suffix that marks it as one."""
    return without(volume_stem(path), LABEL_SUFFIXES)


def _bids_labels(folder: Path) -> list[Path]:
    own = [path for path in sorted(folder.glob("sub-*/**/anat/*_dseg.nii*")) if is_volume(path)]
    return own or [case.label for case in bids_cases(folder, []) if case.label.is_file()]


def _volumes(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if is_volume(path) and not path.name.startswith("."))
    return sorted(path for path in files if path.is_file())


def _predictions(folder: Path) -> list[Path]:
    if is_bids_root(folder):
        return _bids_labels(folder)
    trees = (path / f"{path.name}_seg{suffix}" for path in sorted(folder.iterdir()) for suffix in (".nii.gz", ".nii"))
    return _volumes(folder) + [path for path in trees if path.is_file()]


def _references(folder: Path) -> list[Path]:
    """Return the label maps; where some are marked as such, files named like scans, or like one of them, are scans."""
    if is_bids_root(folder):
        return _bids_labels(folder)
    files = _volumes(folder)
    marked = {path for path in files if case_name(path) != volume_stem(path)}
    cases = {without(case_name(path), IMAGE_SUFFIXES) for path in marked}

    def is_scan(path: Path) -> bool:
        scan = without(volume_stem(path), IMAGE_SUFFIXES)
        return path not in marked and (scan in cases or (bool(marked) and scan != volume_stem(path)))

    return [path for path in files if not is_scan(path)]


def _by_case(folder: Path, files: list[Path]) -> dict[str, Path]:
    if not files:
        raise InputError(folder, "found no label map", "at least one .nii or .nii.gz file is wanted", "pairs")
    cases: dict[str, Path] = {}
    for path in files:
        first = cases.setdefault(case_name(path), path)
        if first is not path:
            found = f"found the case {case_name(path)} in {first} too"
            raise InputError(path, found, "one file for each is wanted", "pairs")
    return cases


def _match(predictions: dict[str, Path], references: dict[str, Path]) -> dict[str, str]:
    """Return the prediction's case for each reference's case that has one."""
    partners = {case: case for case in references if case in predictions}
    left = {name for name in predictions if name not in partners}
    for case in references:
        alike = [name for name in left if without(name, IMAGE_SUFFIXES) == without(case, IMAGE_SUFFIXES)]
        if case not in partners and len(alike) == 1:
            partners[case] = alike[0]
            left.discard(alike[0])
    return partners


def _check_complete(
    sides: tuple[Path, Path], predictions: dict[str, Path], references: dict[str, Path], partners: dict[str, str]
) -> None:
    alone = [path for name, path in predictions.items() if name not in partners.values()]
    missing = [path for name, path in references.items() if name not in partners]
    found = [
        f"{len(files)} without a {partner}: {', '.join(sorted(str(path) for path in files))}"
        for files, partner in ((alone, "reference"), (missing, "prediction"))
        if files
    ]
    if found:
        raise InputError(
            f"{sides[0]} and {sides[1]}", f"found {'; '.join(found)}", "pairs of one name are wanted", "pairs"
        )


def _placed(path: str | Path, folder: Path) -> Path:
    inside = folder / path
    return inside if not Path(path).exists() and inside.exists() else Path(path)
