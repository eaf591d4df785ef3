"""What a training says: which cases it has, how each epoch went, how long it takes; kept as ``training.log``."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

from bundle.labels import Label
from bundle.training.model import TrainedModel
from bundle.training.schedule import ResumableWarmupCosine

LOG_FILE = "training.log"
SHOWN_NAMES, SHOWN_STRUCTURES = 12, 12
logger = logging.getLogger(__name__)


class TrainingLog:
    """Say at the start which cases train and which are held out, and after each epoch how it went.

    Everything that is logged goes to ``training.log`` in the folder of the training too, after what is there.

    Args:
        model: the folder, and what the training is on.
        validator: the engine that validates.
        metric: its key metric, whose details have a column for each structure.
        schedule: of the learning rate, which may give the training a time instead of its steps.
    """

    def __init__(
        self,
        model: TrainedModel,
        validator: Engine,
        metric: str = "val_mean_dice",
        schedule: ResumableWarmupCosine | None = None,
    ) -> None:
        self.model = model
        self.schedule = schedule
        self.validator = validator
        self.metric = metric
        self.file: logging.Handler | None = None
        self.losses: list[float] = []
        self.started = 0.0
        self.first_step = 0

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer, in its first process, after the ``ValidationHandler``."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._say)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Engine) -> None:
        self._close()
        self.file = logging.FileHandler(self.model.folder / LOG_FILE, encoding="utf-8")
        self.file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(self.file)
        logger.setLevel(logging.INFO)
        self.started, self.first_step, self.losses = time.monotonic(), engine.state.iteration, []
        for line in cases_lines(self.model):
            logger.info(line)

    def _keep(self, engine: Engine) -> None:
        self.losses.append(float(engine.state.output[0]["loss"]))  # type: ignore[index]

    def _say(self, engine: Any) -> None:
        state = engine.state
        loss = sum(self.losses) / max(len(self.losses), 1)
        self.losses = []
        steps = state.iteration - self.first_step
        left, of = self.schedule.left() if self.schedule is not None else None, ""
        if left is None:
            left = (state.max_epochs * state.epoch_length - state.iteration) * (time.monotonic() - self.started) / steps
            of = f" of {state.max_epochs}"
        rate = engine.optimizer.param_groups[0]["lr"]
        line = f"epoch {state.epoch}{of}: loss {loss:.4f}, rate {rate:.2g}, {duration(left)} left"
        if self.validator.state.epoch == state.epoch:
            line += f"; {structure_line(self.validator.state, self.metric, self.model.table)}"
        logger.info(line)

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._close()
        if len(engine._event_handlers[Events.EXCEPTION_RAISED]) == 1:  # else another handler raises it
            raise error

    def _close(self, *_: Any) -> None:
        if self.file is not None:
            logging.getLogger().removeHandler(self.file)
            self.file.close()
            self.file = None


def cases_lines(model: TrainedModel) -> list[str]:
    """Return the lines that say which cases train, and which are held out."""
    split, data = model.split, model.data
    if split is None:
        return [f"Training on {data.cases} {data.modality or 'cases'} of {data.name}."]
    if model.fold == "all":
        return [
            f"Training on all {len(split.train)} cases of {data.name}: scores of the validation say nothing of others."
        ]
    names = [case.name for case in split.val]
    more = f" and {len(names) - SHOWN_NAMES} more (model.json has all)" if len(names) > SHOWN_NAMES else ""
    return [
        f"Training on {len(split.train)} of {data.cases} cases of {data.name}, fold {model.fold} of {model.num_folds}.",
        f"Held out, {len(names)} cases: {', '.join(names[:SHOWN_NAMES])}{more}.",
    ]


def structure_line(state: Any, metric: str, table: Sequence[Label]) -> str:
    """Return the mean Dice of a validation and that of each structure, the worst ones where there are many.

    Args:
        state: of the validator; its ``metric_details`` have the shape (cases, structures).
        metric: name of its metric.
        table: the structures, background first.
    """
    line = f"Dice {state.metrics.get(metric, float('nan')):.4f}"
    details = getattr(state, "metric_details", {}).get(metric)
    if details is None:
        return line
    values = torch.as_tensor(details, dtype=torch.float64).nanmean(dim=0).tolist()
    pairs = [(label.name, value) for label, value in zip(table[1:], values, strict=False)]
    if len(pairs) > SHOWN_STRUCTURES:
        pairs = sorted(pairs, key=lambda pair: pair[1])[:SHOWN_STRUCTURES]
        return f"{line}, the lowest: " + ", ".join(f"{name} {value:.3f}" for name, value in pairs)
    return f"{line}: " + ", ".join(f"{name} {value:.3f}" for name, value in pairs)


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
