"""Folds of a cross-validation."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bundle.datasets import Case, make_folds, read_dataset, split_cases
from bundle.errors import InputError, OptionError
from tests.labelled import write_bids

CASES = [Case(f"case_{n:02d}", Path(f"i{n}.nii"), Path(f"l{n}.nii"), f"case_{n:02d}") for n in range(23)]
NAMES = {case.name for case in CASES}


def test_folds_part_the_cases_evenly():
    folds = make_folds(CASES, 5, seed=3)
    assert sorted(name for fold in folds for name in fold) == sorted(NAMES)
    assert sorted(map(len, folds)) == [4, 4, 5, 5, 5]
    for fold in range(5):
        split = split_cases(CASES, fold, 5, seed=3)
        assert [case.name for case in split.val] == folds[fold]
        assert {case.name for case in split.train} == NAMES - set(folds[fold])


def test_folds_depend_on_the_seed_and_not_on_the_order_of_the_files():
    shuffled = random.Random(0).sample(CASES, len(CASES))
    assert make_folds(CASES, 5, 1) == make_folds(shuffled, 5, 1)
    assert split_cases(CASES, 2, seed=1) == split_cases(shuffled, 2, seed=1)
    assert make_folds(CASES, 5, 1) != make_folds(CASES, 5, 2)


def test_sessions_of_a_subject_stay_together(tmp_path):
    write_bids(tmp_path)
    cases = read_dataset(tmp_path).cases
    for fold in range(3):
        split = split_cases(cases, fold, 3)
        assert {case.subject for case in split.train} & {case.subject for case in split.val} == set()
        assert len(split.train) + len(split.val) == 5


def test_fold_all_trains_and_validates_on_all():
    split = split_cases(CASES[::-1], "all")
    assert [*split.train] == [*split.val] == CASES


@pytest.mark.parametrize(
    ("fold", "num_folds", "message"),
    [(5, 5, "0 to 4, or all"), (-1, 5, "found -1"), ("0", 5, "0 to 4"), (0, 24, "2 to 23")],
)
def test_impossible_fold_is_refused(fold, num_folds, message):
    with pytest.raises(OptionError, match=message):
        split_cases(CASES, fold, num_folds)


def test_splits_file_is_written_once_and_then_wins(tmp_path):
    path = tmp_path / "new" / "splits.json"
    written = split_cases(CASES, 1, seed=4, splits_file=path)
    assert written == split_cases(CASES, 1, seed=4)
    assert split_cases(CASES, 1, seed=5, splits_file=path) == written
    content = json.loads(path.read_text())
    content[0]["val"][0], content[1]["val"][0] = content[1]["val"][0], content[0]["val"][0]
    for entry in content:
        entry["train"] = sorted(NAMES - set(entry["val"]))
    path.write_text(json.dumps(content))
    assert {case.name for case in split_cases(CASES, 1, splits_file=path).val} == set(content[1]["val"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folds: folds[0]["val"].pop(), "missing, unknown or in two folds"),
        (lambda folds: folds[0]["val"].append(folds[1]["val"][0]), "missing, unknown or in two folds"),
        (lambda folds: folds[0]["val"].append("stranger"), "stranger"),
        (lambda folds: folds[0]["train"].append(folds[0]["val"][0]), "other training cases in fold 0"),
        (lambda folds: folds.pop(), "found 4 folds"),
        (lambda folds: folds[0].pop("val"), "cannot be read"),
    ],
)
def test_splits_file_that_leaks_or_leaves_out_is_refused(tmp_path, spoil, message):
    path = tmp_path / "splits.json"
    split_cases(CASES, 0, splits_file=path)
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        split_cases(CASES, 0, splits_file=path)
