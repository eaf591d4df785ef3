"""Ids that no config has are refused, with the one that may have been meant; a config is found as it stands."""

from __future__ import annotations

import json

import pytest
from monai.bundle import ConfigParser

from bundle.errors import OptionError, root_cause
from bundle.running import check_known, plain_arguments, raw_config, running_parser
from tests.bundle.training.own_training import TRAINING, bundle_root, run_bundle
from tests.conftest import ROOT
from tests.labelled import write_msd

TRAIN, INFERENCE = (json.loads((ROOT / f"configs/{name}.json").read_text()) for name in ("train", "inference"))


@pytest.mark.parametrize(
    ("name", "config", "meant"),
    [
        ("max_epoch", TRAIN, "did you mean max_epochs?"),
        ("num_worker", TRAIN, "did you mean num_workers?"),
        ("dataloader.num_workers", INFERENCE, "did you mean dataloader#num_workers?"),
        ("train.dataloader.num_workers", TRAIN, "did you mean train#dataloader#num_workers?"),
        ("train#dataloder#num_workers", TRAIN, "did you mean train#dataloader?"),
        ("validat::dataset::length", TRAIN, "did you mean validate?"),
        ("max_epochs", INFERENCE, "an id of the config is wanted"),
        ("xyz", TRAIN, "an id of the config is wanted"),
    ],
)
def test_unknown_id_is_refused_with_the_one_that_was_meant(name, config, meant):
    with pytest.raises(OptionError) as raised:
        check_known([name], config, {**config, name: 1})
    assert str(raised.value) == f"{name}: unknown id; {meant}"


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("max_epochs", TRAIN), ("train#dataloader#num_workers", TRAIN), ("train::loss::lambda_ce", TRAIN),
        ("network_def#attention", TRAIN), ("preprocessing#transforms#0#keys", INFERENCE), ("bundle_root", INFERENCE),
        ("+imports", TRAIN), ("initialize", TRAIN),
    ],
)  # fmt: skip
def test_known_id_is_taken(name, config):
    check_known([name], config, config)


def test_id_that_only_a_reference_asks_for_is_known():
    config = {"a": "$@later + 1", "b": {"c": "@other"}}
    check_known(["later", "other"], config, config)


@pytest.mark.parametrize(
    ("configs", "options", "line"),
    [
        (("train", "own_data"), {"max_epoch": 1}, "max_epoch: unknown id; did you mean max_epochs?"),
        (("train",), {"num_worker": 0}, "num_worker: unknown id; did you mean num_workers?"),
        (
            ("inference",),
            {"dataloader.num_workers": 0},
            "dataloader.num_workers: unknown id; did you mean dataloader#num_workers?",
        ),
        (("inference", "evaluate"), {"datalst": []}, "datalst: unknown id; did you mean datalist?"),
    ],
)
def test_every_run_of_monai_refuses_them(tmp_path, configs, options, line):
    with pytest.raises(RuntimeError) as raised:
        run_bundle(*configs, dataset_dir=tmp_path, output_dir=tmp_path / "out", **options)
    assert str(root_cause(raised.value)) == line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("start", ["host", pytest.param("run_module", marks=pytest.mark.slow)])
def test_one_line_ends_the_process(request, start, tmp_path):
    write_msd(tmp_path / "data")
    files = "['configs/train.json','configs/own_data.json']"
    given = ["--config_file", files, "--dataset_dir", tmp_path / "data", "--output_dir", tmp_path / "run"]
    fixture = request.getfixturevalue(start)
    run = fixture.run if start == "host" else fixture
    done = run("monai.bundle", "run", *given, "--max_epoch", 1)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: max_epoch: unknown id; did you mean max_epochs?"
    assert not (tmp_path / "run").exists()


def test_overlay_may_bring_ids_of_its_own(tmp_path):
    """An id of an overlay is in a file, and so is known, whether or not anything reads it."""
    write_msd(tmp_path / "data")
    (tmp_path / "mine.json").write_text(json.dumps({"my_note": "text", "max_epochs": "@my_epochs"}))
    given = {**TRAINING, "dataset_dir": tmp_path / "data", "output_dir": tmp_path / "run", "my_note": "other"}
    del given["max_epochs"]
    overlay = str(tmp_path / "mine.json")
    with pytest.raises(RuntimeError) as raised:
        run_bundle("train", "own_data", overlay, **given, my_epochs=1, my_epoch=1)
    assert str(root_cause(raised.value)) == "my_epoch: unknown id; did you mean max_epochs?"


def test_config_of_the_caller_is_found_as_it_stands():
    assert running_parser() is None
    assert raw_config("a") is None
    config = {
        "imports": ["$from bundle.running import plain_arguments", "$from bundle.running import raw_config"],
        "size": "$1 + 2",
        "part": {"_target_": "torch.nn.Linear", "in_features": "@size", "out_features": "$4"},
        "listed": {"steps": ["@part", "@size", {"x": "@missing"}]},
        "raw": "$raw_config('listed')",
        "plain": "$plain_arguments('part')",
        "none": "$plain_arguments('listed')",
    }
    with bundle_root():
        parser = ConfigParser(config)
        followed = {"_target_": "torch.nn.Linear", "in_features": "$1 + 2", "out_features": "$4"}
        assert parser.get_parsed_content("raw") == {"steps": [followed, "$1 + 2", {"x": "@missing"}]}
        assert parser.get_parsed_content("plain") == {**followed, "in_features": 3, "out_features": 4}
        assert parser.get_parsed_content("none") is None
    assert plain_arguments("part") is None
