"""Checkpoints that cannot be used say why in one line."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from torch import nn

from bundle.errors import WeightsError
from bundle.io import load_weights
from bundle.io.weights import check_stated
from bundle.provenance import sha256
from tests.conftest import ROOT


def test_weights_are_loaded_and_the_network_evaluates(tmp_path):
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save(source.state_dict(), tmp_path / "model.pt")
    assert load_weights(target, tmp_path / "model.pt") is target
    assert not target.training
    assert torch.equal(target.weight, source.weight)


def _missing(path):
    pass


def _text(path):
    path.write_text("not a checkpoint")


def _empty(path):
    path.write_bytes(b"")


def _truncated(path):
    torch.save(nn.Linear(3, 2).state_dict(), path)
    path.write_bytes(path.read_bytes()[:200])


def _other_network(path):
    torch.save(nn.Linear(4, 2).state_dict(), path)


def _number(path):
    torch.save(3, path)


@pytest.fixture
def released(tmp_path):
    """Weights of a model's folder."""
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(3, 2).state_dict(), path)
    (tmp_path / "model.json").write_text(json.dumps({"weights": {"model.pt": {"sha256": sha256(path)}}}))
    return path


def test_released_weights_are_loaded_only_as_released(released):
    load_weights(nn.Linear(3, 2), released)
    torch.save(nn.Linear(3, 2).state_dict(), released)  # of the same shapes, and other values
    with pytest.raises(WeightsError) as raised:
        load_weights(nn.Linear(3, 2), released)
    message = str(raised.value)
    assert message.startswith(f"{released}: found SHA-256 {sha256(released)[:16]}..., not the ")
    assert "of model.json beside it; the file that was written with it, or another folder" in message


def test_own_weights_beside_a_description_of_others_are_loaded(released):
    own = released.with_name("own.pt")
    torch.save(nn.Linear(3, 2).state_dict(), own)
    load_weights(nn.Linear(3, 2), own)
    released.with_name("model.json").write_text("[]")
    load_weights(nn.Linear(3, 2), released)
    released.with_name("model.json").write_text("{")
    with pytest.raises(WeightsError, match=r"model\.json: cannot be read as JSON"):
        load_weights(nn.Linear(3, 2), released)


@pytest.mark.parametrize("folder", ["models", "models/hippocampus"])
def test_shipped_weights_are_those_of_their_description(folder):
    stated = json.loads((ROOT / folder / "model.json").read_text())["weights"]
    assert stated["model.pt"]["sha256"] == sha256(ROOT / folder / "model.pt")
    check_stated(ROOT / folder / "model.pt")


class Harmful:
    def __reduce__(self):
        return (print, ("code from a checkpoint has run",))


def _code(path):
    path.write_bytes(pickle.dumps(Harmful()))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_missing, "not found"),
        (_text, "cannot be read"),
        (_empty, "cannot be read"),
        (_truncated, "cannot be read"),
        (_other_network, "another network"),
        (_number, "no state dict"),
        (_code, "cannot be read"),
    ],
)
def test_unusable_checkpoint_is_one_line(tmp_path, capsys, spoil, message):
    path = tmp_path / "model.pt"
    spoil(path)
    with pytest.raises(WeightsError, match=message) as raised:
        load_weights(nn.Linear(3, 2), path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "has run" not in capsys.readouterr().out
