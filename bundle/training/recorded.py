"""Training steps that a GPU replays: a CUDA graph of forward pass, loss and backward pass for each size of window.

A step of this network is some 1400 kernels, and to launch them takes a processor longer than most windows take the GPU
(docs/brain_training.md). A graph is launched at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel as Distributed

MOST_SIZES = 8
"""Windows of further sizes are computed kernel by kernel: each graph keeps its gradients and its prediction."""
WARM_UPS = 2
"""Steps before one is recorded, in which cuDNN chooses its kernels and what is compiled is compiled."""


@dataclass
class Recording:
    """What one graph reads, ``image`` and ``label``, and what it writes."""

    graph: Any
    image: Tensor
    label: Tensor
    prediction: Tensor
    loss: Tensor
    gradients: list[Tensor | None]


class RecordedStep:
    """The step of a ``monai.engines.SupervisedTrainer`` (its ``iteration_update``), replayed on a GPU.

    Events are those of MONAI's step, in its order. All of them but the last come before the weights change, and after
    the backward pass: a handler that changes the loss has no effect. What does not fit a graph
    (``amp``, ``accumulation_steps``, several processes) is computed by MONAI's step, as everything is on a processor.

    Args:
        enabled: whether to record.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.recordings: dict[tuple[torch.Size, torch.Size], Recording] = {}

    def __call__(self, engine: Any, batch: Any) -> Any:
        """Take one step of a trainer, and return what MONAI's returns."""
        if not self.enabled or not _can_record(engine):
            return engine._iteration(engine, batch)
        image, label = engine.prepare_batch(batch, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        sizes = (image.shape, label.shape)
        if sizes not in self.recordings and len(self.recordings) == MOST_SIZES:
            return engine._iteration(engine, batch)
        engine.network.train()
        if sizes not in self.recordings:
            self.recordings[sizes] = self._record(engine, image, label)
        step = self.recordings[sizes]
        step.image.copy_(image)
        step.label.copy_(label)
        step.graph.replay()
        for parameter, gradient in zip(engine.network.parameters(), step.gradients, strict=True):
            parameter.grad = gradient
        engine.state.output = {
            CommonKeys.IMAGE: image,
            CommonKeys.LABEL: label,
            CommonKeys.PRED: step.prediction,
            CommonKeys.LOSS: step.loss.clone(),
        }
        for event in ("FORWARD_COMPLETED", "LOSS_COMPLETED", "BACKWARD_COMPLETED"):
            engine.fire_event(IterationEvents[event])
        engine.optimizer.step()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _record(self, engine: Any, image: Tensor, label: Tensor) -> Recording:
        image, label = image.clone(), label.clone()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._compute(engine, image, label)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        memory = next(iter(self.recordings.values())).graph.pool() if self.recordings else None
        # Other threads may go on with what a recording forbids: one of the data loader's allocates pinned memory.
        with torch.cuda.graph(graph, pool=memory, capture_error_mode="thread_local"):
            prediction, loss = self._compute(engine, image, label)
        gradients = [parameter.grad for parameter in engine.network.parameters()]
        return Recording(graph, image, label, prediction, loss, gradients)

    @staticmethod
    def _compute(engine: Any, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return prediction and loss, and leave gradients that are new tensors."""
        for parameter in engine.network.parameters():
            parameter.grad = None
        prediction = engine.inferer(image, engine.network)
        loss = engine.loss_function(prediction, label).mean()
        loss.backward()
        return prediction.detach(), loss.detach()


def _can_record(engine: Any) -> bool:
    on_gpu = torch.device(engine.state.device).type == "cuda"
    return on_gpu and not (engine.amp or engine.accumulation_steps > 1 or isinstance(engine.network, Distributed))
