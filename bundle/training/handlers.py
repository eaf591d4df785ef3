"""Event handlers that MONAI and ignite do not have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver, ProgressBar
from monai.engines.utils import IterationEvents
from torch.nn.utils import clip_grad_norm_


class GradientClipping:
    """Clip the norm of all gradients after each backward pass.

    Args:
        max_norm: largest norm kept.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Register with a ``monai.engines.SupervisedTrainer``."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        clip_grad_norm_(engine.network.parameters(), self.max_norm)  # type: ignore[attr-defined]


class Progress(ProgressBar):
    """A progress bar over the iterations of an epoch, with the loss and the time left."""

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Register with a MONAI trainer, whose output is a list with a dictionary for each item."""
        super().attach(engine, output_transform=lambda output: {"loss": output[0]["loss"]})


class ResumableCheckpoint:
    """Save the state of a training after each epoch; go on from the newest complete one when there is any.

    A checkpoint is written beside its final name and then moved, so that a kill leaves the last one whole.

    Args:
        save_dir: folder of the checkpoints.
        save_dict: objects with ``state_dict``; the trainer itself is added.
        n_saved: checkpoints kept.
    """

    def __init__(self, save_dir: str | Path, save_dict: Mapping[str, Any], n_saved: int = 2) -> None:
        self.save_dir = Path(save_dir)
        self.save_dict = dict(save_dict)
        self.n_saved = n_saved

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        self.save_dict["trainer"] = engine
        engine.add_event_handler(Events.STARTED, self._resume)
        self.save_dir.mkdir(parents=True, exist_ok=True)
        saver = Checkpoint(
            self.save_dict,
            DiskSaver(str(self.save_dir), require_empty=False),
            n_saved=self.n_saved,
            global_step_transform=lambda trainer, _: trainer.state.epoch,
        )
        engine.add_event_handler(Events.EPOCH_COMPLETED, saver)

    def _resume(self, engine: Engine) -> None:
        path = last_checkpoint(self.save_dir)
        if path is None:
            return
        max_epochs = engine.state.max_epochs
        state = torch.load(path, map_location="cpu", weights_only=True)
        Checkpoint.load_objects(self.save_dict, state)
        engine.state.max_epochs = max_epochs
        engine.logger.info(f"Resumed from {path}, epoch {engine.state.epoch} of {max_epochs}.")


def last_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of the last epoch in a folder, or ``None``."""
    epochs = {
        int(match[1]): path for path in folder.glob("*.pt") if (match := re.fullmatch(r"checkpoint_(\d+)", path.stem))
    }
    return epochs[max(epochs)] if epochs else None
