"""Weights go into the folder of a model, with what says what they are of."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch

from bundle.io import write_labels
from bundle.labels import read_labels
from bundle.model import read_model
from networks import TransformerUNet
from scripts.release_weights import main
from tests.bundle.training.tiny_training import NETWORK
from tests.model_folder import write_folder


@pytest.fixture
def released(tmp_path):
    """Arguments of a release into ``tmp_path / "models"``, from the folder of a training of a tiny network."""
    run = write_folder(tmp_path / "run", pixdim=[2.0, 2.0, 2.0])
    (tmp_path / "scores.json").write_text('{"mean_dice": 0.5}')
    given = ["--to", str(tmp_path / "models"), "--scores", str(tmp_path / "scores.json")]
    return [str(run / "model.pt"), *given, "--steps", "10", "--data", "none", "--licence", "CC BY-SA 4.0"]


def test_description_is_of_the_weights(released, tmp_path, capsys):
    assert main(released) == 0
    target, model = tmp_path / "models/model.pt", read_model(tmp_path / "models")
    TransformerUNet(out_channels=3, **NETWORK).load_state_dict(torch.load(target, weights_only=True))
    content = model.content
    assert content["weights"]["model.pt"]["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert content["weights"]["model.pt"]["bytes"] == target.stat().st_size
    assert content["network_def"]["hidden_size"] == NETWORK["hidden_size"]
    assert (model.pixdim, content["licence"]) == ([2.0, 2.0, 2.0], "CC BY-SA 4.0")
    assert content["scores"] == {"mean_dice": 0.5}
    assert (content["data"], content["training"]["steps"]) == ("none", "10")
    assert str(target) in capsys.readouterr().out
    assert sorted(path.name for path in target.parent.iterdir()) == ["labels.tsv", "model.json", "model.pt"]


def test_weights_that_are_there_stay_unless_asked(released, tmp_path, capsys):
    assert main(released) == 0
    before = (tmp_path / "models/model.pt").read_bytes()
    write_folder(tmp_path / "run", seed=1)
    assert main(released) == 1
    assert "model.pt: exists already; a free name, or overwrite, is wanted" in capsys.readouterr().err
    assert (tmp_path / "models/model.pt").read_bytes() == before
    assert main([*released, "--overwrite"]) == 0
    assert (tmp_path / "models/model.pt").read_bytes() != before


def test_regions_of_an_earlier_release_stay(released, tmp_path):
    assert main(released) == 0
    table = tmp_path / "models" / "labels.tsv"
    known = [replace(label, region=f"part {label.code}") for label in read_labels(table)]
    write_labels(known, table, overwrite=True)
    assert main([*released, "--overwrite"]) == 0
    assert read_labels(table) == known
    write_labels([replace(label, name=f"New-{label.name}") for label in known], table, overwrite=True)
    assert main([*released, "--overwrite"]) == 0
    assert {label.region for label in read_labels(table)} == {""}


def test_description_without_its_weights_stays_unless_asked(released, tmp_path, capsys):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/model.json").write_text("mine")
    assert main(released) == 1
    assert "model.json: exists already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["model.json"]


def test_scores_that_are_no_json_write_nothing(released, tmp_path, capsys):
    (tmp_path / "scores.json").write_text("mean dice 0.5")
    assert main(released) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'scores.json'}: cannot be read as JSON")
    assert error.count("\n") == 1
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("out_channels", [None, 4])
def test_weights_that_do_not_fit_write_nothing(released, tmp_path, capsys, out_channels):
    own = tmp_path / "run" / "own.pt"
    if out_channels:
        torch.save(TransformerUNet(out_channels=out_channels, **NETWORK).state_dict(), own)
    assert main([str(own), *released[1:]]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert ("belongs to another network" if out_channels else "not found") in error
    assert not (tmp_path / "models").exists()
