"""Folds for cross-validation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.datasets.case import Case
from bundle.errors import InputError, OptionError
from bundle.io.whole import whole_file

ALL = "all"
SPLITS_WANTED = 'a list of {"train": [names], "val": [names]}, one for each fold, is wanted'


@dataclass(frozen=True)
class Split:
    """The cases of one fold: those that train, and those that never do."""

    train: Sequence[Case]
    val: Sequence[Case]


def split_cases(
    cases: Sequence[Case],
    fold: int | str,
    num_folds: int = 5,
    seed: int = 0,
    splits_file: str | Path | None = None,
) -> Split:
    """Return the cases of one fold, ordered by name.

    Args:
        cases: all cases.
        fold: 0 to ``num_folds - 1``; ``"all"`` trains on all cases and validates on them too, which says nothing about
            others.
        num_folds: number of folds.
        seed: seed of the permutation of subjects.
        splits_file: read when it exists, else written; nnU-Net's ``splits_final.json`` has the same form.

    Raises:
        OptionError: when there is no such fold, or there are more folds than subjects.
        InputError: when ``splits_file`` does not hold a partition of the cases into ``num_folds`` folds.
    """
    ordered = sorted(cases, key=lambda case: case.name)
    if fold == ALL:
        return Split(ordered, ordered)
    if not isinstance(fold, int) or not 0 <= fold < num_folds:
        raise OptionError("fold", f"found {fold}", f"0 to {num_folds - 1}, or {ALL}, is wanted")
    if splits_file is None:
        folds = make_folds(cases, num_folds, seed)
    elif Path(splits_file).exists():
        folds = read_folds(splits_file, cases, num_folds)
    else:
        folds = make_folds(cases, num_folds, seed)
        write_folds(folds, splits_file, overwrite=True)  # another process of the training may have been faster
    held_out = set(folds[fold])
    return Split(
        [case for case in ordered if case.name not in held_out], [case for case in ordered if case.name in held_out]
    )


def make_folds(cases: Sequence[Case], num_folds: int = 5, seed: int = 0) -> list[list[str]]:
    """Return the names that each fold validates on: every case once, the cases of a subject together.

    Only names, subjects and the seed count, not the order of the cases.

    Raises:
        OptionError: when there are fewer than 2 folds, or fewer subjects than folds.
    """
    subjects = sorted({case.subject for case in cases})
    if not 2 <= num_folds <= len(subjects):
        wanted = f"2 to {len(subjects)}, the number of subjects, is wanted"
        raise OptionError("num_folds", f"found {num_folds}", wanted)
    drawn = np.random.default_rng(seed).permutation(len(subjects))
    fold_of = {subjects[index]: place % num_folds for place, index in enumerate(drawn)}
    return [sorted(case.name for case in cases if fold_of[case.subject] == fold) for fold in range(num_folds)]


def write_folds(folds: Sequence[Sequence[str]], path: str | Path, overwrite: bool = False) -> None:
    """Write folds in the form of nnU-Net's ``splits_final.json``.

    Raises:
        ExistsError: when ``path`` exists and ``overwrite`` is false.
    """
    names = sorted(name for fold in folds for name in fold)
    content = [{"train": [name for name in names if name not in set(fold)], "val": list(fold)} for fold in folds]
    with whole_file(path, overwrite) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_folds(path: str | Path, cases: Sequence[Case], num_folds: int) -> list[list[str]]:
    """Read folds and check that they part the cases.

    Raises:
        InputError: when the file has another form or number of folds, or a case is not in exactly one fold's validation
            or not in the training of all other folds.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        folds = [[str(name) for name in entry["val"]] for entry in content]
        trained = [{str(name) for name in entry["train"]} for entry in content]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(path, f"cannot be read ({error})", SPLITS_WANTED, "dataset") from error
    if len(folds) != num_folds:
        raise InputError(path, f"found {len(folds)} folds", f"num_folds = {num_folds} is wanted", "dataset")
    names = {case.name for case in cases}
    times = Counter(name for fold in folds for name in fold)
    wrong = sorted({name for name in names if times[name] != 1} | (times.keys() - names))
    if wrong:
        found = f"found {', '.join(wrong[:5])} missing, unknown or in two folds ({len(wrong)} in all)"
        raise InputError(path, found, "every case in the validation of one fold is wanted", "dataset")
    for number, (fold, train) in enumerate(zip(folds, trained, strict=True)):
        if train != names - set(fold):
            found = f"found other training cases in fold {number}"
            raise InputError(path, found, "all cases not in its val are wanted", "dataset")
    return folds
