"""Flags that a model leaves out, as one of any contrast does those of T1: no result of it is judged by them."""

from __future__ import annotations

import json
import shutil

import pytest

from bundle.errors import InputError, OptionError
from bundle.inference.segmenter import Segmenter
from bundle.model import find_model, read_model
from bundle.results import OutputPaths
from bundle.results.flags import read_limits
from tests.conftest import ROOT
from tests.judging import write_brain_folder

LEFT_OUT = ["contrast_white", "contrast_depth"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_brain_folder(tmp_path_factory.mktemp("models") / "any", judging=False, flags_left_out=LEFT_OUT)


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory):
    return write_brain_folder(tmp_path_factory.mktemp("models") / "t1", seed=1, judging=False)


def record_of(run_main, scan, model, out):
    done = run_main("scripts.segment", scan, "--model", model, "--output-dir", out, "--precision", "float32")
    assert done.returncode == 0
    return json.loads(OutputPaths.of(scan, out).record.read_text())


def test_a_result_is_not_judged_by_them(run_main, tiny_scan, folder, ordinary, tmp_path):
    looked_for = record_of(run_main, tiny_scan, ordinary, tmp_path / "t1")["flags_looked_for"]
    record = record_of(run_main, tiny_scan, folder, tmp_path / "any")
    assert record["flags_looked_for"] == [code for code in looked_for if code not in LEFT_OUT]
    assert len(record["flags_looked_for"]) == len(looked_for) - 2
    assert not {flag["code"] for flag in record["flags"]} & set(LEFT_OUT)


def test_monai_takes_them_from_the_folder_and_an_id_goes_first(folder):
    given = {"model": str(folder), "bundle_root": str(ROOT), "device": "cpu"}
    assert Segmenter(**given).parser.get_parsed_content("flags_left_out") == LEFT_OUT
    assert Segmenter(**given, flags_left_out=[]).parser.get_parsed_content("flags_left_out") == []


def test_several_models_leave_out_what_one_of_them_does(folder, ordinary):
    assert find_model([str(ordinary), str(folder)]).flags_left_out == LEFT_OUT
    assert find_model(ordinary).flags_left_out == []


def test_weights_that_are_not_of_the_folder_leave_out_nothing(folder, tmp_path):
    others = shutil.copy(folder / "model.pt", tmp_path / "others.pt")
    assert find_model(folder, others).flags_left_out == []


def test_unknown_flags_are_refused_in_one_line(folder, tmp_path):
    with pytest.raises(OptionError, match=r"flags_left_out: found the unknown flag 'contrast'; missing, "):
        read_limits(left_out=["missing", "contrast"])
    wrong = write_brain_folder(tmp_path / "wrong", judging=False)
    content = json.loads((wrong / "model.json").read_text()) | {"flags_left_out": "contrast_white"}
    (wrong / "model.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="found flags_left_out other than is legal"):
        read_model(wrong)
