"""Weights averaged over the steps of a training."""

from __future__ import annotations

from collections.abc import Sequence

from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bundle.errors import OptionError


class AveragedWeights(AveragedModel):
    """Exponential moving average of a network's weights, kept in ``module``; buffers are copied.

    The decay of step ``t`` is the smaller of ``decay`` and ``(1 + t) / (10 + t)``: a short training averages over
    about its last tenth and forgets the weights it began with.

    Args:
        network: the network that is trained.
        decay: share of the average that a step keeps, 0 to below 1; 0 makes ``module`` a copy of the network.

    Raises:
        OptionError: when the decay is out of range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise OptionError("ema_decay", f"found {decay}", "0 (off) to below 1 is wanted")
        network = network.module if isinstance(network, DistributedDataParallel) else network
        super().__init__(network, multi_avg_fn=self._average)
        self.decay = decay
        self.module.requires_grad_(False)
        self.source = [network]  # in a list, so that it is no submodule and its weights are saved once

    def attach(self, engine: Engine) -> None:
        """Register with a trainer: averaged after each step."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: self.update_parameters(self.source[0]))

    def _average(self, averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        decay = min(self.decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(decay)(averages, weights, count)
