"""Handlers of a training step, on MONAI's own trainer."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from bundle.errors import TrainingError
from bundle.training import FiniteLoss, GradientClipping, SeedEachEpoch
from bundle.training.curve import smooth


def make_trainer(loss, handlers, epochs=1):
    network = nn.Linear(2, 1)
    return SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=[{"image": torch.ones(1, 2), "label": torch.ones(1, 1)}] * 3,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=loss,
        train_handlers=handlers,
    )


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (lambda pred, label: (pred - label) * float("nan"), "loss of nan"),
        (lambda pred, label: (pred - label) * float("inf"), "loss of"),
        (lambda pred, label: (pred - pred.detach()).abs().sqrt(), "gradient of norm"),
    ],
)
def test_weights_stay_when_loss_or_gradient_is_not_finite(loss, found):
    trainer = make_trainer(loss, [FiniteLoss(), GradientClipping(1.0)])
    before = trainer.network.weight.detach().clone()
    with pytest.raises(TrainingError, match=f"step 1, epoch 1: found a {found}"):
        trainer.run()
    assert torch.equal(trainer.network.weight, before)


def test_gradients_are_clipped_to_the_norm():
    trainer = make_trainer(lambda pred, label: 100 * pred, [GradientClipping(0.5)])
    trainer.run()
    gradients = torch.cat([parameter.grad.flatten() for parameter in trainer.network.parameters()])
    assert float(gradients.norm()) == pytest.approx(0.5, rel=1e-4)


def test_each_epoch_draws_its_own_numbers_and_a_resumed_one_draws_the_same():
    drawn = {}

    def loss(pred, label):
        state = trainer.state
        drawn.setdefault(state.epoch, []).append((float(torch.rand(())), float(np.random.rand())))
        return pred

    trainer = make_trainer(loss, [SeedEachEpoch(5)], epochs=2)
    trainer.run()
    first = dict(drawn)
    drawn.clear()
    torch.manual_seed(99)
    trainer = make_trainer(loss, [SeedEachEpoch(5)], epochs=2)
    trainer.load_state_dict({"epoch": 1, "max_epochs": 2, "epoch_length": 3})
    trainer.run()
    assert drawn == {2: first[2]}
    assert first[1] != first[2]


def test_smoothed_loss_is_the_mean_of_its_neighbours():
    values = np.random.default_rng(0).standard_normal(50)
    expected = [values[max(0, i - 3) : i + 4].mean() for i in range(50)]
    np.testing.assert_allclose(smooth(values, 7), expected)


PILING_UP = """
import random, sys, torch
from ignite.engine import Engine
from bundle.inference.calibration import resident
from bundle.machine import keep_freed_memory
from bundle.training import FreedMemory
keep_freed_memory()
random.seed(0)
network = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3), torch.nn.ReLU(), torch.nn.Conv3d(8, 8, 3))
def step(engine, batch):
    kept.append(torch.zeros(1000))  # what stays lies between what goes
    network(torch.rand(1, 1, *(random.randint(24, 64) for _ in range(3)))).mean().backward()
kept, engine = [], Engine(step)
if sys.argv[1] == "give":
    FreedMemory(3).attach(engine)
engine.run(range(6))
print(resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps what is freed")
def test_freed_memory_is_given_back_every_few_steps(host):
    def held(mode):
        return int(host.run("-c", PILING_UP, mode).stdout)

    kept, given = held("keep"), held("give")
    assert given < kept - 50e6, (kept, given)
