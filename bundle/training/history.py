"""The course of a training: kept over a resume, written as a table and as a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor

from bundle.io.whole import whole_file
from bundle.training.curve import draw_training_curve


class History:
    """Keep loss and learning rate of each step and the key metric of each validation.

    ``history.csv`` is written after each epoch, ``training_curve.png`` at the end. Several processes share the mean of
    their losses; the first one writes.

    Args:
        validator: the engine that validates.
        output_dir: folder of both files.
    """

    def __init__(self, validator: Engine, output_dir: str | Path) -> None:
        self.validator = validator
        self.output_dir = Path(output_dir)
        self.epoch: list[tuple[float, float]] = []  # loss and learning rate of the steps of this epoch
        self.steps = torch.empty(0, 2, dtype=torch.float64)  # those of the epochs before
        self.metrics = torch.empty(0, 2, dtype=torch.float64)  # step and metric of each validation

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer, after the ``ValidationHandler``."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.epoch.clear())
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._keep_step)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self._keep_metric, engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        engine.add_event_handler(Events.COMPLETED, self._draw)

    def _keep_step(self, engine: Any) -> None:
        self.epoch.append((float(engine.state.output["loss"].detach()), engine.optimizer.param_groups[0]["lr"]))

    def _keep_metric(self, validator: Any, engine: Engine) -> None:
        name = validator.state.key_metric_name
        if name is not None:
            row = [engine.state.iteration, validator.state.metrics[name]]
            self.metrics = torch.cat([self.metrics, torch.tensor([row], dtype=torch.float64)])

    def _end_epoch(self, engine: Any) -> None:
        rows = torch.tensor(self.epoch, dtype=torch.float64).to(engine.state.device)
        total: Any = idist.all_reduce(rows)
        self.steps = torch.cat([self.steps, total.cpu() / idist.get_world_size()])
        if engine.state.rank == 0:
            self._write_table(engine.state.epoch_length)

    def _write_table(self, epoch_length: int) -> None:
        name = self.validator.state.key_metric_name or "metric"  # type: ignore[attr-defined]
        metric_at = {int(step): value for step, value in self.metrics.tolist()}
        path = self.output_dir / "history.csv"
        with whole_file(path, overwrite=True) as unfinished, unfinished.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["step", "epoch", "loss", "learning_rate", name])
            for step, (loss, rate) in enumerate(self.steps.tolist(), start=1):
                epoch = (step - 1) // epoch_length + 1
                table.writerow([step, epoch, f"{loss:.7g}", f"{rate:.7g}", metric_at.get(step, "")])

    def _draw(self, engine: Engine) -> None:
        if engine.state.rank == 0 and len(self.steps):  # type: ignore[attr-defined]
            name = self.validator.state.key_metric_name  # type: ignore[attr-defined]
            draw_training_curve(self.output_dir / "training_curve.png", self.steps, self.metrics, name)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what happened up to the end of the last epoch."""
        return {"steps": self.steps, "metrics": self.metrics}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned."""
        self.steps, self.metrics = state_dict["steps"], state_dict["metrics"]
