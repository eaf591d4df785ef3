"""An evaluation says what it scores: codes of one side, cases that trained, cases without a partner, whose table."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest

from bundle.errors import BundleWarning, InputError
from bundle.evaluation import Scorer, pair_label_maps
from bundle.evaluation.sides import chosen_names, seen_line, side_lines
from bundle.labels import make_labels
from bundle.model import read_model
from tests.bundle.training.own_training import NETWORK_OPTIONS, run_bundle, train_on
from tests.labelled import CODES, NAMES, SHAPE, make_pair, write_msd, write_nifti
from tests.threads import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_msd(folder)
    return folder


@pytest.fixture(scope="module")
def fold_1(data, tmp_path_factory):
    return train_on(data, tmp_path_factory.mktemp("runs") / "own", fold=1)


@pytest.fixture(scope="module")
def predictions(data, tmp_path_factory):
    """The labels of all cases, as if they were predicted."""
    return shutil.copytree(data / "labelsTr", tmp_path_factory.mktemp("predictions") / "all")


def evaluate(data, model, output_dir, **options):
    """Run ``evaluate.json`` with a model and return the summary."""
    given = {"model": model, "dataset_dir": data, "output_dir": output_dir, "engine": "torch", **options}
    run_bundle("inference", "evaluate", **given)
    return json.loads((output_dir / "summary.json").read_text())


def test_monai_run_scores_what_was_held_out(data, fold_1, tmp_path, caplog):
    held_out = read_model(fold_1).held_out
    with caplog.at_level(logging.INFO):
        summary = evaluate(data, fold_1, tmp_path / "held_out")
    assert summary["cases"] == held_out
    assert "2 of 6 cases are scored, those that the training held out; --cases all scores all" in caplog.text
    assert list(summary["structures"]) == ["Inner", "Outer"]
    with pytest.warns(BundleWarning, match="4 of 6 cases were seen in the training of .*own; their scores say nothing"):
        assert len(evaluate(data, fold_1, tmp_path / "all", cases="all")["cases"]) == 6


def test_program_scores_what_was_held_out(data, fold_1, predictions, run_main, tmp_path):
    given = (predictions, data / "labelsTr", "--model", fold_1, "--output-dir")
    done = run_main("scripts.evaluate", *given, tmp_path / "held_out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 of 6 cases are scored, those that the training held out; --all-cases: all\n")
    summary = json.loads((tmp_path / "held_out/summary.json").read_text())
    assert summary["cases"] == read_model(fold_1).held_out
    done = run_main("scripts.evaluate", *given, tmp_path / "all", "--all-cases")
    assert "warning: 4 of 6 cases were seen in the training of" in done.stderr
    assert len(json.loads((tmp_path / "all/summary.json").read_text())["cases"]) == 6


def test_split_is_asked_only_where_it_is_that_of_the_cases(fold_1):
    model = read_model(fold_1)
    held_out, trained = model.held_out, model.trained_on
    assert chosen_names([*trained, *held_out], model) == set(held_out)
    assert chosen_names([f"{name}_T1w" for name in (*trained, *held_out)], model) == {f"{n}_T1w" for n in held_out}
    assert chosen_names(held_out, model) is None
    assert chosen_names(["other_1", "other_2"], model) is None
    assert chosen_names([*trained, *held_out], None) is None
    assert seen_line(["other", *held_out], model) is None


def test_codes_of_one_side_are_named_with_the_side():
    scorer = Scorer(make_labels({**NAMES, 9: "Never"}), ignore=[255])
    label = make_pair(0)[1].astype(np.int16)
    other = np.where(label == 7, 17, label)
    other[0, 0, 0] = 255
    cases = [scorer.score("a", label, other, np.eye(4))]
    assert cases[0].predicted_codes == (0, 3, 7)
    assert cases[0].reference_codes == (0, 3, 17)
    assert side_lines(cases, scorer) == [
        "codes 17 of references: not in the label table, counted as background",
        "codes 7: in predictions only, in no reference; their Dice is 0",
    ]
    both = [*cases, scorer.score("b", label, label, np.eye(4))]
    assert side_lines(both, scorer) == ["codes 17 of references: not in the label table, counted as background"]


def test_both_ways_to_evaluate_warn_of_codes_of_one_side(data, fold_1, predictions, run_main, tmp_path, caplog):
    other = shutil.copytree(data, tmp_path / "other")
    for path in (other / "labelsTr").iterdir():
        index = int(path.name[5:7])
        label = make_pair(index)[1]
        write_nifti(path, np.where(label == 7, 17, label).astype(np.uint8))
    line = "codes 17 of references: not in the label table, counted as background"
    done = run_main("scripts.evaluate", predictions, other / "labelsTr", "--model", fold_1)
    assert done.returncode == 0
    assert f"warning: {line}\n" in done.stderr
    assert "warning: codes 7: in predictions only, in no reference; their Dice is 0\n" in done.stderr
    with caplog.at_level(logging.WARNING):
        evaluate(other, fold_1, tmp_path / "out")
    assert line in caplog.text


def test_part_of_the_cases_is_scored_when_asked(data, predictions, run_main, tmp_path):
    some = shutil.copytree(predictions, tmp_path / "some")
    (some / "case_03.nii.gz").unlink()
    done = run_main("scripts.evaluate", some, data / "labelsTr")
    assert done.returncode == 1
    assert "1 without a prediction" in done.stderr
    done = run_main("scripts.evaluate", some, data / "labelsTr", "--partial")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(pair_label_maps(some, data / "labelsTr", partial=True)) == 5
    write_nifti(tmp_path / "none/another.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match="pairs of one name are wanted"):
        pair_label_maps(tmp_path / "none", data / "labelsTr", partial=True)


def test_table_beside_the_references_is_found_and_named(data, predictions, run_main):
    done = run_main("scripts.evaluate", predictions, data / "labelsTr")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"label table: {data / 'dataset.json'}\n")
    assert "Inner" in done.stdout
    assert set(NAMES) == set(CODES)


def test_unknown_choice_of_cases_is_refused(data, fold_1, tmp_path):
    with pytest.raises(RuntimeError) as raised:
        evaluate(data, fold_1, tmp_path, cases="some", **NETWORK_OPTIONS)
    assert "cases: found 'some'; held_out or all is wanted" in str(raised.value.__cause__ or raised.value)
