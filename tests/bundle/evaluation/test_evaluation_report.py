"""The files of an evaluation: what they say, that they appear together, and that the picture shows every structure."""

from __future__ import annotations

import csv
import json
import math
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image

from bundle.errors import ExistsError
from bundle.evaluation import (
    Scorer,
    check_report,
    compare,
    comparison_lines,
    draw_dice,
    mirror_line,
    save_report,
    summarise,
    summary_lines,
)
from bundle.evaluation.plot import PALE, structure_rows
from bundle.evaluation.report import plot_title
from bundle.labels import Label, make_labels, read_labels
from tests.phantom import SPACING, phantom_codes

TABLE = read_labels()
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])
PAIRS = (
    Label(0, 0, "Background", (0, 0, 0)),
    Label(1, 1, "Anterior", (200, 0, 0)),
    Label(2, 2, "Posterior", (0, 200, 0)),
)


@pytest.fixture(scope="module")
def scorer():
    return Scorer(TABLE, ignore=[255], unscored=[24])


@pytest.fixture(scope="module")
def cases(scorer):
    """Three phantoms, shifted more and more; a thalamus is missed in the last."""
    reference = phantom_codes()
    predictions = [np.roll(reference, step, 1) for step in (1, 2, 3)]
    predictions[2] = np.where(predictions[2] == 10, 2, predictions[2])
    return [scorer.score(f"p{n}", codes, reference, AFFINE) for n, codes in enumerate(predictions)]


@pytest.fixture(scope="module")
def report(scorer, cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new"
    other = list(reversed(cases))
    other = [type(case)(name.case, case.structures) for name, case in zip(cases, other, strict=True)]
    sets = {"prediction": cases, "compared": other}
    save_report(folder, scorer, sets, seed=4, comparisons=[compare(cases, other)], label_table="configs/labels.tsv")
    return folder


def test_csv_has_a_line_for_each_set_case_and_structure(report, cases):
    with open(report / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 31
    assert rows[0]["set"] == "prediction"
    for row, score in zip(rows, (score for case in cases for score in case.structures), strict=False):
        assert (int(row["code"]), row["structure"]) == (score.label.code, score.label.name)
        for column in ("dice", "nsd", "hd95_mm", "volume_error_percent", "reference_mm3", "mirrored_share"):
            value = getattr(score, column)
            if math.isnan(value):
                assert row[column] == ""
            else:
                assert float(row[column]) == pytest.approx(value, rel=1e-5)
    assert {row["hd95_mm"] for row in rows if row["code"] == "10" and row["case"] == "p2"} >= {"inf"}


def test_json_says_what_was_done_with_what(report, cases):
    record = json.loads((report / "summary.json").read_text(), parse_constant=pytest.fail)
    summary = summarise(cases, seed=4)
    assert record["versions"]["monai"] == version("monai")
    assert {"bundle", "python", "torch", "numpy", "scipy"} <= record["versions"].keys()
    assert (record["ignored_codes"], record["unscored_codes"]) == ([255], [24])
    assert record["unknown_codes"]["prediction"] == [511, 515]
    assert record["counts"] == {"cases": 3, "structures": 31}
    assert record["cases"] == ["p0", "p1", "p2"]
    assert record["bootstrap"]["seed"] == 4
    assert record["label_table"] == "configs/labels.tsv"
    assert record["nsd_tolerance_mm"] == 1
    for row in summary.structures:
        found = record["structures"][row.label.name]
        assert found["code"] == row.label.code
        assert found["one_sided"] == row.one_sided == (row.label.code == 10)
        estimate = row.estimates["dice"]
        wanted = estimate.mean, estimate.low, estimate.high, estimate.count
        assert tuple(math.nan if found["dice"][key] is None else found["dice"][key] for key in (
            "mean", "low", "high", "count",
        )) == pytest.approx(wanted, nan_ok=True)  # fmt: skip
    assert record["overall"]["dice"]["mean"] == pytest.approx(np.mean(list(record["mean_dice_of_case"].values())))
    assert record["structures"]["Left-Thalamus"]["hd95_mm"]["count"] == 2
    assert record["comparison"]["dice"]["structures"]["Brain-Stem"]["p_holm"] <= 1


def test_equal_scores_give_equal_bytes(report, scorer, cases, tmp_path):
    for folder in ("a", "b"):
        save_report(tmp_path / folder, scorer, {"prediction": cases}, seed=4)
    for name in ("scores.csv", "summary.json", "dice.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_existing_report_is_kept_unless_overwriting(scorer, cases, tmp_path):
    (tmp_path / "summary.json").write_text("mine")
    with pytest.raises(ExistsError, match=r"summary\.json: exists already"):
        save_report(tmp_path, scorer, {"prediction": cases})
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    save_report(tmp_path, scorer, {"prediction": cases}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dice.png", "scores.csv", "summary.json"]
    assert (tmp_path / "summary.json").read_text() != "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(ExistsError, match="file: found a file; a folder, or a free name, is wanted"):
        check_report(tmp_path / "file")


def test_failure_while_writing_leaves_nothing(scorer, cases, tmp_path):
    with pytest.raises(TypeError, match="JSON"):
        save_report(tmp_path, scorer, {"prediction": cases}, label_table=object())
    assert list(tmp_path.iterdir()) == []


def test_printed_table_has_a_line_for_each_structure_and_one_for_all(cases):
    summary = summarise(cases)
    header, *rows, overall = summary_lines(summary)
    assert header.split()[:3] == ["structure", "cases", "Dice"]
    assert [row.split()[0] for row in rows] == [label.name for label in TABLE[1:] if label.code != 24]
    assert overall.startswith("all structures")
    estimate = summary.overall["dice"]
    assert f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]" in overall
    missed = next(row for row in rows if row.startswith("Left-Thalamus"))
    assert missed.endswith("missing on one side in 1")
    absent = next(row for row in rows if row.startswith("Left-Amygdala"))
    assert absent.split()[1:] == ["0", "-", "-", "-", "-"]


def test_printed_confusion_names_the_worst_structure(scorer):
    reference = phantom_codes()
    predicted = np.where(reference == 49, 10, reference)
    summary = summarise([scorer.score("a", predicted, reference, AFFINE)])
    sided = np.isin(reference, [2, 3, 4, 10, 41, 42, 43, 49]).sum()
    assert mirror_line(summary) == (
        f"left and right mixed up: {(reference == 49).sum() / sided:.3%} of the voxels with a side; "
        "most in Right-Thalamus, 100.000%"
    )
    codes = (np.eye(8, dtype=np.int16) + 1)[None]
    one_sided = Scorer(PAIRS).score("a", codes, codes, np.eye(4))
    assert mirror_line(summarise([one_sided])) is None


def test_printed_comparison_says_when_the_test_has_too_few_cases(cases):
    lines = comparison_lines(compare(cases, cases))
    assert len(lines) == 2 + 31 + 1 + 1
    assert lines[0] == "dice: first minus second; above 0, first is better"
    assert lines[-1] == "with 3 cases p cannot go below 0.25"
    assert lines[-2].startswith("all structures")


def test_rows_of_the_picture_put_left_before_right():
    scored = [label for label in TABLE[1:] if label.code not in (24, 17)]
    rows = structure_rows(scored, TABLE)
    assert sorted(index for row in rows for index in row.indices) == list(range(len(scored)))
    names = {row.name: [scored[index].name for index in row.indices] for row in rows}
    assert names["Thalamus"] == ["Left-Thalamus", "Right-Thalamus"]
    assert names["Right-Hippocampus"] == ["Right-Hippocampus"]
    assert names["Brain-Stem"] == ["Brain-Stem"]
    assert [row.name for row in structure_rows(PAIRS[1:], PAIRS)] == ["Anterior", "Posterior"]


def test_rows_of_the_picture_pair_sides_in_any_spelling():
    table = make_labels(dict(enumerate(("right hippocampus", "left hippocampus", "Amygdala_L", "Stem"), start=1)))
    rows = structure_rows(table[1:], table)
    assert [(row.name, row.indices) for row in rows] == [
        ("hippocampus", (1, 0)), ("Amygdala_L", (2,)), ("Stem", (3,)),
    ]  # fmt: skip


def colours(picture: Image.Image) -> set[tuple[int, int, int]]:
    """Return what is shown anywhere, red, green and blue."""
    return {colour for _, colour in picture.getcolors(picture.size[0] * picture.size[1])}


def test_picture_shows_each_structure_in_its_colour(report, cases, tmp_path):
    picture = Image.open(report / "dice.png").convert("RGB")
    shown = colours(picture)
    found = [score.label for score in cases[0].structures if math.isfinite(score.dice)]
    assert len(found) == 9
    assert {label.colour for label in found} <= shown
    assert TABLE[15].colour not in shown  # amygdala, of which there is none
    one = [type(cases[0])("only", cases[0].structures)]
    draw_dice(one, TABLE, tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").size[0] == picture.size[0]


def test_picture_of_a_comparison_shows_both_sets(cases, tmp_path):
    def drawn(name, *second):
        draw_dice(cases, TABLE, tmp_path / name, other=second)
        return Image.open(tmp_path / name).convert("RGB")

    def shows(picture, colour):
        return bool((np.abs(np.array([*colours(picture)]) - colour).max(axis=-1) < 1.5).any())

    alone, both = drawn("alone.png"), drawn("both.png", *cases[:2])
    found = [score.label for score in cases[0].structures if math.isfinite(score.dice)]
    coloured = [label for label in found if max(label.colour) - min(label.colour) > 40]  # grid and edges are grey
    assert len(coloured) > 3
    for label in coloured:
        pale = [PALE * part + 255 * (1 - PALE) for part in label.colour]
        assert (shows(both, label.colour), shows(both, pale)) == (True, True)
        assert not shows(alone, pale)
    assert both.size[1] > 1.7 * alone.size[1]


def test_title_of_a_comparison_names_both_folders(cases):
    sets, sources = {"prediction": cases, "compared": cases[:1]}, {"prediction": "a/b/ours", "compared": "a/b/theirs"}
    ours, theirs = plot_title(sets, sources).splitlines()
    assert (ours.startswith("Dice of 3 cases, mean 0."), ours.endswith(" (above): b/ours")) == (True, True)
    assert (theirs.startswith("Dice of 1 case, mean 0."), theirs.endswith(" (pale, below): b/theirs")) == (True, True)
    assert "\n" not in plot_title({"prediction": cases}, sources)


def test_picture_of_nothing_found_is_drawn(scorer, tmp_path):
    nothing = np.zeros((4, 4, 4), dtype=np.int16)
    draw_dice([scorer.score("a", nothing, nothing, np.eye(4))], TABLE, tmp_path / "none.png")
    assert Image.open(tmp_path / "none.png").size[1] > 300
