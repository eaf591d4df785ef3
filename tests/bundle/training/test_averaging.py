"""Averaged weights against the recurrence in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from torch import nn

from bundle.errors import OptionError
from bundle.training import AveragedWeights


def run(decay: float, steps: int):
    """Average a network whose weights an engine draws anew in each step; return the average and what was drawn."""
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    averaged = AveragedWeights(network, decay)
    drawn = []

    def step(engine, batch):
        with torch.no_grad():
            network[0].weight.normal_()
            network[1].running_mean.normal_()
        drawn.append(network[0].weight.detach().clone())

    engine = Engine(step)
    averaged.attach(engine)
    engine.run(range(steps))
    return averaged, network, np.stack(drawn).astype(np.float64)


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_average_follows_the_recurrence_with_warm_up(decay):
    averaged, network, drawn = run(decay, 150)
    expected = drawn[0]
    for step in range(1, len(drawn)):
        rate = min(decay, (1 + step) / (10 + step))
        expected = rate * expected + (1 - rate) * drawn[step]
    np.testing.assert_allclose(averaged.module[0].weight.numpy(), expected, atol=1e-5)
    assert torch.equal(averaged.module[1].running_mean, network[1].running_mean)


def test_decay_of_zero_copies_the_network():
    averaged, network, _ = run(0.0, 5)
    assert torch.equal(averaged.module[0].weight, network[0].weight)


def test_state_goes_on_where_it_was_and_holds_the_network_once():
    averaged, network, _ = run(0.99, 7)
    other = AveragedWeights(network, 0.99)
    other.load_state_dict(averaged.state_dict())
    for item in (averaged, other):
        item.update_parameters(network)
    assert torch.equal(averaged.module[0].weight, other.module[0].weight)
    names = {f"module.{name}" for name in network.state_dict()} | {"n_averaged"}
    assert averaged.state_dict().keys() == names


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_out_of_range_is_refused(decay):
    with pytest.raises(OptionError, match="ema_decay: found"):
        AveragedWeights(nn.Linear(1, 1), decay)
