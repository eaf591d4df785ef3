"""The quality that a network predicts, from a scan to its record, its table, its flags and the table of a cohort."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from jsonschema import Draft202012Validator

from bundle import segment
from bundle.cohort.rows import row_of
from bundle.errors import BundleWarning
from bundle.inference.segmenter import Segmenter
from bundle.labels import read_labels
from bundle.results import OutputPaths
from bundle.results.finished import read_finished
from bundle.results.quality import Quality, limits_for, lowest
from tests.conftest import ROOT
from tests.judging import GROUPS, network_of, write_brain_folder

SCHEMA = json.loads((ROOT / "configs" / "record.schema.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_brain_folder(tmp_path_factory.mktemp("judging") / "model")


@pytest.fixture(scope="module")
def segmented(folder, tiny_scan, run_main, tmp_path_factory):
    """What the program prints, and the paths of the results."""
    out = tmp_path_factory.mktemp("results")
    done = run_main("scripts.segment", tiny_scan, "--model", folder, "--output-dir", out, "--precision", "float32")
    assert done.returncode == 0
    return done, OutputPaths.of(tiny_scan, out)


@pytest.fixture(scope="module")
def expected(folder, tiny_scan):
    """What the network says of the scan as it sees it."""
    data = Segmenter(model=str(folder), bundle_root=str(ROOT)).preprocessing({"image": str(tiny_scan)})
    return network_of(folder).forward_with_outputs(data["image"].as_tensor()[None])[1][0].tolist()


def read(paths):
    record = json.loads(paths.record.read_text())
    with open(paths.volumes, newline="") as file:
        return record, list(csv.DictReader(file, delimiter="\t"))


def test_record_and_table_have_what_the_network_predicts(segmented, expected):
    record, rows = read(segmented[1])
    assert list(record["quality"]) == list(GROUPS)
    assert list(record["quality"].values()) == pytest.approx(expected, abs=1e-3)
    Draft202012Validator(SCHEMA).validate(record)
    group_of = {str(code): name for name, codes in GROUPS.items() for code in codes}
    for row in rows:
        wanted = f"{record['quality'][group_of[row['code']]]:.3f}" if row["code"] in group_of else ""
        assert row["quality"] == wanted
    assert [row["name"] for row in rows if row["quality"] == ""] == ["CSF"]


def test_low_predictions_are_flagged_in_one_line_that_says_what_to_do(segmented):
    done, paths = segmented
    record, rows = read(paths)
    low = {name for name, value in record["quality"].items() if value < 0.65}
    assert low, "some group is low in this network"
    assert low != set(GROUPS)
    names = {label.name for label in read_labels() for name in low if label.code in GROUPS[name]}
    found = [flag for flag in record["flags"] if flag["code"] == "quality"]
    assert {flag["structure"] for flag in found} == names
    assert all(flag["threshold"] == 0.65 > flag["value"] for flag in found)
    assert {row["name"] for row in rows if "quality" in row["flags"].split(";")} == names
    assert "quality" in record["flags_looked_for"]
    (line,) = (line for line in done.stderr.splitlines() if "look twice" in line)
    assert "quality: predicted Dice is low, look at the outlines before using it (" in line


def test_pages_and_cohorts_take_the_lowest_group(segmented):
    _, paths = segmented
    wanted = min(read(paths)[0]["quality"].values())
    assert read_finished(paths).quality == wanted
    assert row_of(None, paths).quality == wanted


def test_in_memory_it_is_the_same(segmented, folder, tiny_scan):
    result = segment(tiny_scan, model=folder, precision="float32")
    assert result.record["quality"] == read(segmented[1])[0]["quality"]
    assert result.volumes["Left-Hippocampus"].quality == result.record["quality"]["hippocampus and amygdala"]


def test_an_ensemble_predicts_the_mean(segmented, folder, tiny_scan, tmp_path):
    other = write_brain_folder(tmp_path / "other", seed=1)
    single, both = (segment(tiny_scan, model=given, precision="float32") for given in (other, [folder, other]))
    first = read(segmented[1])[0]["quality"]
    for name, value in both.record["quality"].items():
        assert value == pytest.approx((first[name] + single.record["quality"][name]) / 2, abs=2e-3)


def test_monais_workflow_writes_it_too(segmented, folder, tiny_scan, tmp_path):
    from monai.bundle import ConfigWorkflow

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / tiny_scan.name).symlink_to(tiny_scan)
    given = {
        "bundle_root": str(ROOT),
        "model": str(folder),
        "dataset_dir": str(tmp_path / "in"),
        "precision": "float32",
    }
    workflow = ConfigWorkflow(
        str(ROOT / "configs/inference.json"), logging_file=False, output_dir=str(tmp_path / "out"), **given
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    found = read(OutputPaths.of(tiny_scan, tmp_path / "out"))[0]["quality"]
    assert found == read(segmented[1])[0]["quality"]


def test_without_outputs_there_is_nothing_of_it(tiny_scan, tmp_path):
    folder = write_brain_folder(tmp_path / "plain", judging=False)
    result = segment(tiny_scan, model=folder, precision="float32")
    assert result.record["quality"] is None
    assert "quality" not in result.record["flags_looked_for"]
    assert not any(flag.code == "quality" for flag in result.flags)
    assert all(row.quality is None for row in result.volumes.values())
    Draft202012Validator(SCHEMA).validate(dict(result.record))


@pytest.mark.parametrize("judging", [True, False])
def test_other_weights_than_the_models_own_are_not_judged(segmented, folder, tiny_scan, tmp_path, judging):
    state = torch.load(folder / "model.pt", weights_only=True)
    kept = {name: value for name, value in state.items() if judging or not name.startswith("scan_head.")}
    torch.save(kept, tmp_path / "other.pt")
    with pytest.warns(BundleWarning, match="taken for weights of made"):
        result = segment(tiny_scan, model=folder, checkpoint=tmp_path / "other.pt", precision="float32")
    assert result.record["quality"] is None
    assert read(segmented[1])[0]["volumes"] == result.record["volumes"]


def test_quality_by_group_and_by_code():
    quality = Quality({"one": [2, 41], "two": [17]}, [0.91239, 0.5])
    assert quality.record() == {"one": 0.912, "two": 0.5}
    assert quality.by_code() == {2: 0.912, 41: 0.912, 17: 0.5}
    assert limits_for({"quality": 1, "small": 2}, None) == {"small": 2}
    assert limits_for({"quality": 1, "small": 2}, quality) == {"quality": 1, "small": 2}
    assert [lowest(value) for value in (None, {}, {"a": 0.7, "b": 0.6}, 0.8)] == [None, None, 0.6, 0.8]


def test_bounded_outputs_are_the_sigmoid_of_the_heads(folder):
    network = network_of(folder)
    tokens = torch.rand(2, 20, 12)
    torch.testing.assert_close(network.outputs_of(tokens), network.scan_head(tokens).sigmoid())
