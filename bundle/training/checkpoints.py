"""What a training leaves on disk: checkpoints to go on from, the best weights and the last ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from torch import nn

from bundle import process
from bundle.errors import OptionError, TrainingError
from bundle.io.weights import read_checkpoint
from bundle.io.whole import whole_file
from bundle.training.model import TrainedModel

FINGERPRINT = "fingerprint"
"""Where a checkpoint holds what its training is of."""


class ResumableCheckpoint:
    """Save the state of a training after each epoch; go on from the newest checkpoint when there is one.

    A checkpoint takes its place once it is complete, so that a kill leaves the last one whole. In a training of several
    processes the first one writes and all read.

    Args:
        save_dir: folder of the checkpoints.
        save_dict: objects with ``state_dict``; the trainer itself is added.
        n_saved: checkpoints kept.
        model: what the training is of; a checkpoint of something else is refused.
    """

    def __init__(
        self,
        save_dir: str | Path,
        save_dict: Mapping[str, Any],
        n_saved: int = 2,
        model: TrainedModel | None = None,
    ) -> None:
        self.model = model
        self.save_dir = Path(save_dir)
        self.save_dict = dict(save_dict)
        self.n_saved = n_saved

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer."""
        self.save_dict["trainer"] = engine
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self, engine: Engine) -> None:
        self._resume(engine)
        # Only now, so that it comes after all that the other handlers do at the end of an epoch.
        if engine.state.rank == 0 and not engine.has_event_handler(self._save):  # type: ignore[attr-defined]
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        states: dict[str, Any] = {name: _unwrapped(item).state_dict() for name, item in self.save_dict.items()}
        if self.model is not None:
            states[FINGERPRINT] = json.dumps(self.model.fingerprint)
        save_whole(states, self.save_dir / f"checkpoint_{engine.state.epoch}.pt")
        process.interrupted_hint = f"the same command goes on after epoch {engine.state.epoch}"
        epochs = checkpoint_epochs(self.save_dir)
        for epoch in sorted(epochs)[: -self.n_saved]:
            epochs[epoch].unlink()

    def _resume(self, engine: Engine) -> None:
        epochs = checkpoint_epochs(self.save_dir)
        if not epochs:
            return
        path = epochs[max(epochs)]
        max_epochs = engine.state.max_epochs
        state = read_checkpoint(path)
        if self.model is not None and FINGERPRINT in state:  # trainings of version 0.9 have none
            self.model.check_checkpoint(path, json.loads(state[FINGERPRINT]))
        try:
            Checkpoint.load_objects(self.save_dict, state)
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            found = f"found the checkpoint of another training ({reason})"
            raise TrainingError(path, found, "give the command that wrote it, or another output_dir") from error
        engine.state.max_epochs = max_epochs
        process.interrupted_hint = f"the same command goes on after epoch {engine.state.epoch}"
        engine.logger.info(f"Resumed from {path}, epoch {engine.state.epoch} of {max_epochs}.")


class BestWeights:
    """Save the weights whenever the validation's key metric is the best so far; stop when it no longer improves.

    MONAI's validator finds the best; this keeps it over a resume too.

    Args:
        validator: the engine that validates.
        network: the network that is validated.
        path: where its weights go.
        patience: validations in a row without a better metric after which the training stops; ``None`` for none.
        model: the folder that the weights belong to.

    Raises:
        OptionError: when the patience is below 1.
    """

    def __init__(
        self,
        validator: Engine,
        network: nn.Module,
        path: str | Path,
        patience: int | None = None,
        model: TrainedModel | None = None,
    ) -> None:
        if patience is not None and patience < 1:
            wanted = "a number of validations from 1 on, or null, is wanted"
            raise OptionError("patience", f"found {patience}", wanted)
        self.validator = validator
        self.network = network
        self.path = Path(path)
        self.patience = patience
        self.waited = 0
        self.model = model

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer, after ``ResumableCheckpoint``."""
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self._judge, engine)
        engine.add_event_handler(Events.STARTED, self._stop_when_due)

    def _judge(self, validator: Any, engine: Engine) -> None:
        if validator.state.key_metric_name is None:
            return
        self.waited += 1
        if validator.state.best_metric_epoch == validator.state.epoch:
            self.waited = 0
            if validator.state.rank == 0:
                save_weights(self.network, self.path, engine, self.validator, self.model)
        self._stop_when_due(engine)

    def _stop_when_due(self, engine: Engine) -> None:
        if self.patience is not None and self.waited >= self.patience:
            engine.logger.info(f"Stopped: {self.waited} validations without a better metric (patience).")
            engine.terminate()

    def state_dict(self) -> dict[str, float]:
        """Return the best metric, its epoch and the validations since."""
        state: Any = self.validator.state
        best, epoch = float(state.best_metric), int(state.best_metric_epoch)
        return {"best_metric": best, "best_metric_epoch": epoch, "waited": self.waited}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        state: Any = self.validator.state
        state.best_metric, state.best_metric_epoch = state_dict["best_metric"], state_dict["best_metric_epoch"]
        self.waited = state_dict["waited"]


class FinalWeights:
    """Save the weights when the training is complete.

    Args:
        network: the network to save.
        path: where its weights go.
        validator: the engine that validates, whose metrics are noted.
        model: the folder that the weights belong to.
    """

    def __init__(
        self,
        network: nn.Module,
        path: str | Path,
        validator: Engine | None = None,
        model: TrainedModel | None = None,
    ) -> None:
        self.network = network
        self.path = Path(path)
        self.validator = validator
        self.model = model

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the file, in the first process."""
        if engine.state.rank == 0:  # type: ignore[attr-defined]
            save_weights(self.network, self.path, engine, self.validator, self.model)
            engine.logger.info(f"Weights saved: {self.path}.")


def checkpoint_epochs(folder: Path) -> dict[int, Path]:
    """Return the checkpoints of a folder by their epoch."""
    return {
        int(match[1]): path for path in folder.glob("*.pt") if (match := re.fullmatch(r"checkpoint_(\d+)", path.stem))
    }


def save_whole(content: Any, path: Path) -> None:
    """Write with ``torch.save``, in place of an older file, so that no half-written one is ever seen."""
    with whole_file(path, overwrite=True) as unfinished:
        torch.save(content, unfinished)


def save_weights(
    network: nn.Module, path: Path, engine: Engine, validator: Engine | None, model: TrainedModel | None
) -> None:
    """Write the weights of a network, and what they are of where ``model`` knows it."""
    state = {name: value.cpu() for name, value in _unwrapped(network).state_dict().items()}  # loads anywhere
    if model is None:
        save_whole(state, path)
        return
    judged = validator is not None and validator.state.epoch == engine.state.epoch
    model.save(state, path.name, engine, validator.state.metrics if validator is not None and judged else None)


def _unwrapped(item: Any) -> Any:
    return item.module if isinstance(item, nn.parallel.DistributedDataParallel) else item
