"""Event handlers of a training step that MONAI and ignite do not have."""

from __future__ import annotations

import sys

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.utils import manual_seed
from monai.engines.utils import IterationEvents
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import tqdm

from bundle.errors import TrainingError
from bundle.machine import freed_memory_is_kept, give_back_freed_memory
from bundle.training.schedule import ResumableWarmupCosine

LOG_FILE_INTERVAL = 30.0  # seconds between the lines of a progress bar that no terminal shows


class FreedMemory:
    """Give freed memory back to the system every few steps, where ``keep_freed_memory`` would let it pile up.

    Windows of ever other sizes leave gaps that no later tensor fits: at 1 mm a training grew by 0.2 GB a step.

    Args:
        interval: steps between two times.
    """

    def __init__(self, interval: int = 5) -> None:
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Register with an ignite engine."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine) -> None:
        """Give back what is free, where it is kept."""
        if freed_memory_is_kept():
            give_back_freed_memory()


class FiniteLoss:
    """Stop the training, before the weights change, when the loss is NaN or infinite."""

    def attach(self, engine: Engine) -> None:
        """Register with a ``monai.engines.SupervisedTrainer``."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Look at the loss of a step.

        Raises:
            TrainingError: when it is NaN or infinite.
        """
        loss = float(engine.state.output["loss"].detach())  # type: ignore[index]
        if not np.isfinite(loss):
            raise diverged(engine, f"loss of {loss}")


class GradientClipping:
    """Clip the norm of all gradients after each backward pass; stop the training when it is NaN or infinite.

    Args:
        max_norm: largest norm kept.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Register with a ``monai.engines.SupervisedTrainer``."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Clip the gradients of a step.

        Raises:
            TrainingError: when their norm is NaN or infinite.
        """
        norm = clip_grad_norm_(engine.network.parameters(), self.max_norm)  # type: ignore[attr-defined]
        if not torch.isfinite(norm):
            raise diverged(engine, f"gradient of norm {float(norm)}")


class SeedEachEpoch:
    """Seed all random generators anew at the start of each epoch, from the seed, the epoch and the process.

    A resumed training so draws what an uninterrupted one does, in every process, and no state needs saving.

    Args:
        seed: seed of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed Python's, NumPy's and PyTorch's generators."""
        mixed = np.random.SeedSequence((self.seed, engine.state.epoch, engine.state.rank))  # type: ignore[attr-defined]
        manual_seed(int(mixed.generate_state(1)[0]))


class Progress:
    """A progress bar over the whole training, with the time left, the loss and the last validation's key metric.

    Args:
        validator: the engine that validates.
        schedule: of the learning rate, which may give the training a time instead of its steps.
    """

    def __init__(self, validator: Engine | None = None, schedule: ResumableWarmupCosine | None = None) -> None:
        self.validator = validator
        self.schedule = schedule
        self.bar = tqdm(disable=True)

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer, after ``ResumableCheckpoint``."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, lambda: self.bar.close())
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _open(self, engine: Engine) -> None:
        state = engine.state
        timed = self.schedule is not None and self.schedule.minutes is not None
        by_steps = "{desc} {percentage:3.0f}%|{bar:20}| step {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        self.bar = tqdm(
            total=None if timed else state.max_epochs * state.epoch_length,  # type: ignore[operator]
            initial=state.iteration,
            bar_format="{desc} step {n_fmt} [{elapsed}<{postfix}]" if timed else by_steps,
            mininterval=0.1 if sys.stderr.isatty() else LOG_FILE_INTERVAL,
            smoothing=0,  # windows differ in size: the mean over all steps tells the time left best
        )

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self.bar.close()
        raise error

    def _advance(self, engine: Engine) -> None:
        state = engine.state
        left = self.schedule.left() if self.schedule is not None else None
        shown = {} if left is None else {"left": self.bar.format_interval(left)}
        shown["loss"] = f"{float(state.output[0]['loss']):.4f}"  # type: ignore[index]
        if self.validator is not None and self.validator.state.metrics:
            name = self.validator.state.key_metric_name  # type: ignore[attr-defined]
            shown[name] = f"{self.validator.state.metrics[name]:.4f}"
        of = "" if left is not None else f"/{state.max_epochs}"
        self.bar.set_description_str(f"epoch {state.epoch}{of}", refresh=False)
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()


def diverged(engine: Engine, found: str) -> TrainingError:
    """Return the error for a loss or gradient that is no number any more."""
    state = engine.state
    return TrainingError(
        f"training stopped at step {state.iteration}, epoch {state.epoch}",
        f"found a {found}, a finite one is wanted",
        "lower learning_rate or set precision to float32, checkpoints are whole",
    )
