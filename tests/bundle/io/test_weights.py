"""Checkpoints that cannot be used say why in one line."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from bundle.errors import WeightsError
from bundle.io import load_weights


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
