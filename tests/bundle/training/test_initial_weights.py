"""Weights that a training starts from: whole, in part, or refused in one line."""

from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import CheckpointLoader

from bundle.errors import WeightsError
from bundle.training import InitialWeights
from networks import TransformerUNet
from tests.bundle.training.tiny_training import NETWORK, equal

OTHER_CLASSES = {**NETWORK, "out_channels": 3, "position_grid": [3, 2, 2]}
OWN = ["head.bias", "head.weight", "position.grid"]


@pytest.fixture
def brain(tmp_path):
    """The file of a tiny brain network's weights, and the weights."""
    state = TransformerUNet(**NETWORK).state_dict()
    torch.save(state, tmp_path / "brain.pt")
    return tmp_path / "brain.pt", state


def start(handler):
    engine = Engine(lambda engine, batch: None)
    handler.attach(engine)
    engine.run([0], max_epochs=1)


def test_all_weights_are_loaded(brain):
    path, state = brain
    network = TransformerUNet(**NETWORK)
    start(InitialWeights(path, network))
    assert equal(network.state_dict(), state)


def test_other_classes_and_grid_keep_their_own_and_are_named(brain, caplog):
    path, state = brain
    network = TransformerUNet(**OTHER_CLASSES)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with caplog.at_level(logging.INFO):
        start(InitialWeights(path, network, partial=True))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name] if name in OWN else state[name]), name
    assert f"{len(state) - len(OWN)} of {len(state)} parameters" in caplog.text
    assert all(name in caplog.text for name in OWN)


def test_separate_qkv_starts_from_fused_weights(brain):
    path, state = brain
    network = TransformerUNet(**OTHER_CLASSES, use_combined_linear=False)
    start(InitialWeights(path, network, partial=True))
    fused = TransformerUNet(**OTHER_CLASSES)
    fused.load_state_dict(network.state_dict())
    for name, value in fused.state_dict().items():
        assert name in OWN or torch.equal(value, state[name]), name


def test_separate_qkv_of_another_width_is_refused_in_one_line(brain):
    path, _ = brain
    network = TransformerUNet(**{**OTHER_CLASSES, "hidden_size": 24}, use_combined_linear=False)
    with pytest.raises(WeightsError, match=r"brain\.pt: 0 of the network's") as raised:
        start(InitialWeights(path, network, partial=True))
    assert "\n" not in str(raised.value)


def test_stock_loader_loads_nothing(brain):
    """Why the handler exists; when MONAI mends it, this fails and the handler may go."""
    path, state = brain
    network = TransformerUNet(**OTHER_CLASSES)
    start(CheckpointLoader(str(path), {"model": network}, strict=False, strict_shape=False))
    assert not torch.equal(network.state_dict()["stem1.0.weight"], state["stem1.0.weight"])


@pytest.mark.parametrize("partial", [False, True])
def test_what_does_not_fit_is_refused(brain, tmp_path, partial):
    path, _ = brain
    other = {**OTHER_CLASSES, "channels": [6, 6, 6], "hidden_size": 24} if partial else OTHER_CLASSES
    network = TransformerUNet(**other)
    if partial:
        torch.save({"unknown": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"brain\.pt: \d+ of the network's \d+ parameters fit") as raised:
        start(InitialWeights(path, network, partial))
    assert ("init_partial true" in str(raised.value)) is not partial
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "not found"), (b"no weights", "cannot be read"), ({"model": {}}, "no state dict")],
)
def test_file_that_holds_no_weights_is_refused(tmp_path, content, found):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=rf"weights\.pt: .*{found}"):
        start(InitialWeights(path, TransformerUNet(**NETWORK)))
