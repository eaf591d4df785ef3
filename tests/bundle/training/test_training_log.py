"""A training says what it has and how it goes, keeps that in a file, and its last line says how to go on."""

from __future__ import annotations

import re
import signal
from types import SimpleNamespace

import pytest
import torch

from bundle.labels import make_labels
from bundle.training.log import duration, structure_line
from tests.bundle.training.own_training import NETWORK_OPTIONS, TRAINING, train_on
from tests.bundle.training.tiny_training import train
from tests.labelled import write_msd


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_msd(folder)
    return folder


def messages(folder):
    lines = (folder / "training.log").read_text().splitlines()
    return [line.split(" INFO ", 1)[1] for line in lines if " INFO " in line]


def test_log_names_cases_epochs_and_structures(data, tmp_path):
    run = train_on(data, tmp_path / "run", fold=0, max_epochs=2, val_interval=2)
    said = messages(run)
    assert "Training on 4 of 6 cases of " + data.name + ", fold 0 of 3." in said
    assert "Held out, 2 cases: case_03, case_04." in said
    epochs = [line for line in said if line.startswith("epoch ")]
    assert re.fullmatch(r"epoch 1 of 2: loss \d\.\d{4}, rate [\d.e-]+, \d+ (s|min) left", epochs[0])
    assert re.search(r"; Dice 0\.\d{4}: Inner \d\.\d{3}, Outer \d\.\d{3}$", epochs[1])


def test_resumed_training_adds_to_the_log_and_says_only_what_applies(data, tmp_path):
    start = train_on(data, tmp_path / "start", fold=0) / "model.pt"
    given = {"fold": 0, "init_checkpoint": start, "init_partial": False}
    run = train_on(data, tmp_path / "run", **given)
    train_on(data, run, **given, max_epochs=2)
    text = (run / "training.log").read_text()
    assert text.count("Held out, 2 cases") == 2
    assert [line[:12] for line in messages(run) if line.startswith("epoch ")] == ["epoch 1 of 1", "epoch 2 of 2"]


def test_brain_training_says_how_many_label_maps(phantom_maps, tmp_path):
    train(phantom_maps, tmp_path)
    assert f"Training on 2 label maps of {phantom_maps.name}." in messages(tmp_path)


def test_structures_of_a_validation_are_named_the_worst_where_there_are_many():
    table = make_labels({0: "background", **{code: f"s{code}" for code in range(1, 31)}})
    values = torch.linspace(0, 0.29, 30).repeat(2, 1)
    values[1, 3] = float("nan")
    state = SimpleNamespace(metrics={"d": 0.5}, metric_details={"d": values})
    line = structure_line(state, "d", table)
    assert line.startswith("Dice 0.5000, the lowest: s1 0.000, s2 0.010, s3 0.020, s4 0.030, ")
    assert line.count(",") == 12
    assert structure_line(SimpleNamespace(metrics={"d": 0.5}), "d", table) == "Dice 0.5000"


def test_durations_are_what_a_person_says():
    assert [duration(seconds) for seconds in (8.2, 600, 9000)] == ["8 s", "10 min", "2.5 h"]


def test_interrupted_training_says_how_to_go_on(host, data, tmp_path):
    folders = {"dataset_dir": data, "output_dir": tmp_path / "run"}
    given = {**TRAINING, **NETWORK_OPTIONS, **folders, "max_epochs": 500, "fold": 0}
    files = "['configs/train.json','configs/own_data.json']"
    options = [part for key, value in given.items() for part in (f"--{key}", value)]
    fault = {"wait": (tmp_path / "run", "checkpoint_[2-9].pt"), "signal": signal.SIGINT}
    done = host.run("monai.bundle", "run", "--config_file", files, *options, **fault)
    assert re.fullmatch(r"interrupted; the same command goes on after epoch \d+", done.stderr.splitlines()[-1])
