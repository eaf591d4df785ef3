"""Weights go where their config looks for them, with a manifest that says what they are."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from networks import TransformerUNet
from scripts.release_weights import main
from tests.bundle.training.tiny_training import NETWORK


@pytest.fixture
def released(tmp_path):
    """Arguments of a release into ``tmp_path / "models"``, from weights of a tiny network of three classes."""
    torch.save(TransformerUNet(out_channels=3, **NETWORK).state_dict(), tmp_path / "run.pt")
    (tmp_path / "scores.json").write_text('{"mean_dice": 0.5}')
    changes = {f"network_def#{key}": value for key, value in NETWORK.items()}
    changes |= {"checkpoint": str(tmp_path / "models" / "model.pt"), "num_classes": 3, "pixdim": [2.0, 2.0, 2.0]}
    (tmp_path / "overlay.json").write_text(json.dumps(changes))
    named = {"config": "overlay.json", "scores": "scores.json"}
    given = [part for key, value in named.items() for part in (f"--{key}", str(tmp_path / value))]
    return [str(tmp_path / "run.pt"), *given, "--steps", "10", "--data", "none", "--licence", "CC BY-SA 4.0"]


def test_manifest_describes_the_weights(released, tmp_path, capsys):
    assert main(released) == 0
    target, manifest = tmp_path / "models/model.pt", json.loads((tmp_path / "models/manifest.json").read_text())
    TransformerUNet(out_channels=3, **NETWORK).load_state_dict(torch.load(target, weights_only=True))
    assert manifest["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert manifest["bytes"] == target.stat().st_size
    assert manifest["network"]["out_channels"] == 3
    assert manifest["network"]["hidden_size"] == NETWORK["hidden_size"]
    assert (manifest["pixdim"], manifest["licence"]) == ([2.0, 2.0, 2.0], "CC BY-SA 4.0")
    assert manifest["scores"] == {"mean_dice": 0.5}
    assert str(target) in capsys.readouterr().out
    assert sorted(path.name for path in target.parent.iterdir()) == ["manifest.json", "model.pt"]


def test_weights_that_are_there_stay_unless_asked(released, tmp_path, capsys):
    assert main(released) == 0
    before = (tmp_path / "models/model.pt").read_bytes()
    torch.save(TransformerUNet(out_channels=3, **NETWORK).state_dict(), tmp_path / "run.pt")
    assert main(released) == 1
    assert "model.pt: exists already; a free name, or overwrite, is wanted" in capsys.readouterr().err
    assert (tmp_path / "models/model.pt").read_bytes() == before
    assert main([*released, "--overwrite"]) == 0
    assert (tmp_path / "models/model.pt").read_bytes() != before


def test_manifest_without_its_weights_stays_unless_asked(released, tmp_path, capsys):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/manifest.json").write_text("mine")
    assert main(released) == 1
    assert "manifest.json: exists already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["manifest.json"]


def test_scores_that_are_no_json_write_nothing(released, tmp_path, capsys):
    (tmp_path / "scores.json").write_text("mean dice 0.5")
    assert main(released) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'scores.json'}: cannot be read as JSON")
    assert error.count("\n") == 1
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("out_channels", [None, 4])
def test_weights_that_do_not_fit_write_nothing(released, tmp_path, capsys, out_channels):
    (tmp_path / "run.pt").unlink()
    if out_channels:
        torch.save(TransformerUNet(out_channels=out_channels, **NETWORK).state_dict(), tmp_path / "run.pt")
    assert main(released) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert ("belongs to another network" if out_channels else "not found") in error
    assert not (tmp_path / "models").exists()
