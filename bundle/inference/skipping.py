"""A MONAI workflow that goes on past a scan that cannot be used: its data set and its evaluator.

Its batches are those of ``batches.py``. ``tests/bundle/inference/test_skipping.py`` holds it, with and without worker
processes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ignite.engine import Events
from monai.data import Dataset
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils import ensure_tuple

from bundle.errors import error_line
from bundle.inference.batches import FAILED
from bundle.results import Failures
from bundle.results.record import STAGES_KEY, Stages

ENDINGS = (KeyboardInterrupt, SystemExit)
"""How a process is told to end: Ctrl-C, and SIGTERM (``bundle.process``)."""


class SkippingDataset(Dataset):
    """MONAI's ``Dataset``, whose item is ``{"failed": reason}`` where a scan cannot be loaded.

    An error would end the run, and in a worker process it would lose its kind.

    Args:
        data: ``{"image": path}`` each.
        transform: what loads them.
        on_error: ``"skip"``, or ``"raise"`` for MONAI's own behaviour.

    Raises:
        OptionError: for another ``on_error``.
    """

    def __init__(
        self, data: Sequence[Mapping[str, Any]], transform: Callable[..., Any] | None = None, on_error: str = "skip"
    ) -> None:
        super().__init__(data, transform)
        self.skip = Failures(on_error).skip

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:
            if not self.skip:
                raise
            return {FAILED: error_line(error, str(self.data[index].get("image", "")))}


def _unless_told_to_end(record: logging.LogRecord) -> bool:
    """Keep what an engine logs out of the way of the one line that Ctrl-C and SIGTERM end in."""
    return not isinstance(sys.exc_info()[1], ENDINGS)


class SkippingEvaluator(SupervisedEvaluator):
    """MONAI's evaluator, which hands a scan that fails to ``failures`` and goes on with the next one.

    Records get the seconds of reading (with worker processes: of waiting for them) and of the network.

    Args:
        failures: what collects them, and decides whether the run goes on.
        options: those of ``SupervisedEvaluator``.
    """

    def __init__(self, failures: Failures, **options: Any) -> None:
        self.failures = failures
        self.stages = Stages()
        postprocessing = options.get("postprocessing")
        if postprocessing is not None:  # MONAI cannot take apart a batch that holds the clock itself
            options["postprocessing"] = lambda data: postprocessing({**data, STAGES_KEY: self.stages})
        super().__init__(**options)
        self.logger.addFilter(_unless_told_to_end)
        self.add_event_handler(Events.GET_BATCH_STARTED, self._start_clock)
        self.add_event_handler(Events.GET_BATCH_COMPLETED, self._end_stage, "read")
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._end_stage, "network")

    def _start_clock(self) -> None:
        self.stages = Stages()

    def _end_stage(self, name: str) -> None:
        self.stages.end(name)

    def _handle_exception(self, e: BaseException) -> None:
        """Hand an error to handlers, which may log it; being told to end is none."""
        if isinstance(e, ENDINGS):
            raise e
        super()._handle_exception(e)

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> Any:
        for reason in batchdata.pop(FAILED, ()):
            self.failures.report(reason)
        if not batchdata:
            return []
        names = ensure_tuple(getattr(batchdata.get("image"), "meta", {}).get("filename_or_obj", ""))
        try:
            return super()._iteration(engine, batchdata)
        except Exception as error:
            for name in names:
                self.failures.add(error, name)
            return []
