"""Steps replayed as CUDA graphs, against MONAI's own step."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import SimpleInferer

from bundle.errors import TrainingError
from bundle.training import FiniteLoss, FusedDiceCELoss, GradientClipping, MixedPrecisionInferer, RecordedStep
from bundle.training.recorded import MOST_SIZES
from networks import TransformerUNet

EVENTS = ("FORWARD_COMPLETED", "LOSS_COMPLETED", "BACKWARD_COMPLETED", "MODEL_COMPLETED")


def batch(edge, seed, device="cpu"):
    draw = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 1, edge, edge, 16, generator=draw)
    label = torch.randint(0, 5, image.shape, generator=draw, dtype=torch.uint8)
    return {"image": image.to(device), "label": label.to(device)}


def trained(step, edges, device="cpu", handlers=(), loss=None, **options):
    """Return the trainer, and the losses and events of one step for each edge of a window."""
    torch.manual_seed(0)
    network = TransformerUNet(
        1, 5, (4, 8, 8), 12, mlp_dim=16, num_layers=1, num_heads=2, position_grid=(2, 2, 2), attention="pooled"
    ).to(device)
    trainer = SupervisedTrainer(
        device=torch.device(device),
        max_epochs=1,
        train_data_loader=[batch(edge, seed, device) for seed, edge in enumerate(edges)],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=loss or FusedDiceCELoss(enabled=False),
        inferer=MixedPrecisionInferer(SimpleInferer(), "float32", device),
        iteration_update=step,
        train_handlers=list(handlers),
        **options,
    )
    seen = []
    for name in EVENTS:
        trainer.add_event_handler(IterationEvents[name], lambda engine, name=name: seen.append(name))
    losses = []
    trainer.add_event_handler(
        IterationEvents.LOSS_COMPLETED, lambda engine: losses.append(float(engine.state.output["loss"].detach()))
    )
    trainer.run()
    return trainer, losses, seen


def test_a_processor_takes_monais_step():
    step = RecordedStep()
    trainer, losses, seen = trained(step, [16, 24, 16])
    other, expected, events = trained(None, [16, 24, 16])
    assert losses == expected
    assert seen == events == [*EVENTS] * 3
    assert not step.recordings
    for mine, theirs in zip(trainer.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@needs_gpu
def test_replayed_steps_train_as_monais_do():
    edges = [16, 24, 32, 16, 32, 24, 16]
    step = RecordedStep()
    trainer, losses, seen = trained(step, edges, "cuda", [FiniteLoss(), GradientClipping(1.0)])
    other, expected, events = trained(None, edges, "cuda", [FiniteLoss(), GradientClipping(1.0)])
    assert len(step.recordings) == 3
    assert seen == events == [*EVENTS] * len(edges)
    assert losses == pytest.approx(expected, rel=1e-3)
    assert len(set(losses)) == len(edges)
    for mine, theirs in zip(trainer.network.parameters(), other.network.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=2e-3)


@needs_gpu
def test_sizes_beyond_the_most_are_computed_without_a_graph():
    step = RecordedStep()
    edges = [8 * (2 + number) for number in range(MOST_SIZES + 2)]
    _, losses, _ = trained(step, edges, "cuda")
    assert len(step.recordings) == MOST_SIZES
    assert len(losses) == len(edges)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(device):
    weights = {}

    def loss(prediction, label):
        return prediction.mean() * float("nan")

    with pytest.raises(TrainingError, match="step 1, epoch 1: found a loss of nan"):
        trained(RecordedStep(), [16], device, [Keep(weights), FiniteLoss()], loss)
    assert len(weights) > 1
    assert all(torch.equal(weights[name], value) for name, value in weights["network"].named_parameters())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_benchmark_of_steps_asks_for_a_gpu(host):
    done = host.run("benchmarks.gpu_step")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: gpu_step: found no CUDA GPU; a machine with one is wanted"


@needs_gpu
def test_benchmark_of_steps_prints_both_ways(host):
    done = host.run("benchmarks.gpu_step", "--window", "32", "32", "32", "--steps", "4")
    assert done.returncode == 0
    assert float(done.stdout.splitlines()[-1].split()[-1]) > 0


class Keep:
    """Keeps the weights that a training begins with."""

    def __init__(self, weights):
        self.weights = weights

    def attach(self, engine):
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine):
        self.weights["network"] = engine.network
        self.weights.update({name: value.detach().clone() for name, value in engine.network.named_parameters()})
