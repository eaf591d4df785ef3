"""The learning rate over a training."""

from __future__ import annotations

import math
import time
from typing import Any

from ignite.engine import Engine, Events
from monai.optimizers import WarmupCosineSchedule


class ResumableWarmupCosine(WarmupCosineSchedule):
    """MONAI's linear warm-up and cosine, of which a checkpoint keeps the step, and the time spent.

    A resumed training thus takes its length and its rate from its command: one that is made longer goes on along the
    longer cosine, where MONAI's schedule would rise again.

    Args:
        minutes: length of the cosine in time instead of ``t_total`` steps, warm-up included, from the end of the first
            step; attached to a trainer it ends the training then. For a machine that is lent for so long.
        arguments: MONAI's.
    """

    def __init__(self, *arguments: Any, minutes: float | None = None, **named: Any) -> None:
        self.minutes = minutes
        self.spent = 0.0
        self.since: float | None = None
        super().__init__(*arguments, **named)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, which ends when the time is over."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_when_over)

    def _end_when_over(self, engine: Engine) -> None:
        if self.minutes is not None and self.share() >= 1:
            engine.terminate()

    def share(self) -> float:
        """Return how much of the time is spent."""
        now = 0.0 if self.since is None else time.monotonic() - self.since
        return (self.spent + now) / (60 * self.minutes) if self.minutes else 0.0

    def left(self) -> float | None:
        """Return the seconds left, ``None`` for a training that is told its steps."""
        return None if self.minutes is None else max(0.0, 60 * self.minutes * (1 - self.share()))

    def lr_lambda(self, step: int) -> float:
        """Return the share of the learning rate after so many steps, and now."""
        if self.since is None and step > 0:
            self.since = time.monotonic()
        if self.minutes is None or step < self.warmup_steps:
            return float(super().lr_lambda(step))  # type: ignore[no-untyped-call]
        return 0.5 * (1 + math.cos(math.pi * min(1.0, self.share())))

    def state_dict(self) -> dict[str, Any]:
        """Return the step, and the seconds spent."""
        return {"last_epoch": self.last_epoch, "spent": 60 * self.minutes * self.share() if self.minutes else 0.0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to a step and set its learning rate."""
        self.last_epoch, self.spent = state_dict["last_epoch"], state_dict.get("spent", 0.0)
        self.since = None
        self._last_lr = self.get_lr()  # type: ignore[no-untyped-call]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
