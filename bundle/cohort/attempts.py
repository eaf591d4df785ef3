"""One attempt at each of some scans, in this process: the one way in which programs segment files.

Where that pays, the results of a scan are written while the next one is read and segmented. Nothing that goes wrong
with a scan leaves :func:`attempts` as an exception: what comes back is always a :class:`Result`, plain enough for any
process to read. ``tests/bundle/cohort/test_attempts.py`` holds it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bundle.cohort.messages import DONE, FAILED, SKIPPED, Case, Result, Settings
from bundle.cohort.resume import standing_of
from bundle.cohort.rows import row_of
from bundle.errors import BundleError, error_line, root_cause
from bundle.inference.pipeline import pipeline
from bundle.io.whole import sweep
from bundle.machine import available_cores
from bundle.results import OutputPaths

if TYPE_CHECKING:
    from bundle.inference.segmenter import Segmenter

FINAL = ("format", "shape", "type", "geometry", "intensities", "labels", "grid", "pairs", "option", "exists")
"""Codes of errors that another attempt would meet again: they are of what the file holds, not of the moment."""

NETWORK_CORES = 2
"""Cores that the network fills by itself: there, writing beside it gains nothing and takes 200 MiB more."""

logger = logging.getLogger(__name__)


@dataclass
class _Begun:
    """A scan whose results are to be written, unless it has come to an end by now."""

    case: Case
    seconds: float = 0.0
    result: Result | None = None
    scan: dict[Any, Any] | None = None
    reason: str = ""


def make_segmenter(settings: Settings) -> Segmenter:
    """Load what segments scans.

    Raises:
        BundleError: when it cannot be used.
    """
    import torch

    from bundle.inference.segmenter import Segmenter

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    overrides = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.overrides}
    if "device" in overrides:
        overrides["device"] = torch.device(str(overrides["device"]))  # a string could be an expression of MONAI's
    # A resumed run has looked itself at what is there; what it writes over is no longer true.
    overwrite = settings.overwrite or settings.resume
    return Segmenter(list(settings.config), output_dir=settings.output_dir, overwrite=overwrite, **overrides)


def attempts(
    cases: Iterable[Case], segmenter: Segmenter, settings: Settings, overlap: bool | None = None
) -> Generator[tuple[Case, Result], None, None]:
    """Yield what becomes of each scan, in their order; whoever does not take all closes it.

    Args:
        cases: the scans.
        segmenter: see :func:`make_segmenter`.
        settings: what it was made by.
        overlap: whether the results of a scan are written while the next one is computed; ``None`` where that pays, on
            a GPU or more than ``NETWORK_CORES``.
    """
    if overlap is None:
        overlap = segmenter.device.type != "cpu" or available_cores() > NETWORK_CORES
    # One stage for both: a scan that is read while the network is at another costs a seventh more memory.
    stages = (lambda case: _begin(case, segmenter, settings), lambda begun: _finish(begun, segmenter))
    with pipeline(cases, *stages, overlap=overlap) as outcomes:
        for outcome in outcomes:
            lines = tuple(dict.fromkeys(" ".join(str(warning).split()) for warning in outcome.warnings))
            yield outcome.item, replace(outcome.get(), warnings=lines)


def failure(case: Case, error: Exception) -> Result:
    """Return what an error makes of a scan; with ``--debug`` its traceback is logged where nobody foresaw it."""
    cause = root_cause(error, case.image)
    code = cause.code if isinstance(cause, BundleError) else None
    if code is None:
        logger.warning(case.image, exc_info=error)
    return Result(FAILED, code=code, reason=error_line(cause), again=code not in FINAL)


def _begin(case: Case, segmenter: Segmenter, settings: Settings) -> _Begun:
    started = time.perf_counter()
    try:
        begun = _computed(case, segmenter, settings)
    except Exception as error:  # of this scan alone
        begun = _Begun(case, result=failure(case, error))
    begun.seconds = time.perf_counter() - started
    return begun


def _computed(case: Case, segmenter: Segmenter, settings: Settings) -> _Begun:
    folder = case.folder(settings.output_dir)
    reason = ""
    if settings.resume:
        paths = OutputPaths.of(case.image, folder)
        sweep(paths.record.parent, settled=0)  # whoever was at it has been killed: the output folder is this run's
        if not settings.overwrite:
            standing = standing_of(paths, case.image, segmenter.maker, settings.trust_mtime)
            if standing.record is not None:
                return _Begun(case, result=Result(SKIPPED, row_of(standing.record, paths)))
            reason = standing.reason
    return _Begun(case, scan=segmenter.compute(segmenter.read(case.image, folder)), reason=reason)


def _finish(begun: _Begun, segmenter: Segmenter) -> Result:
    """Write the results of a scan and return what became of it."""
    started, result = time.perf_counter(), begun.result
    if begun.scan is not None:
        try:
            result = Result(DONE, row_of(None, segmenter.write(begun.scan)), reason=begun.reason)
        except Exception as error:  # of this scan alone
            result = failure(begun.case, error)
    assert result is not None
    return replace(result, seconds=round(begun.seconds + time.perf_counter() - started, 3))
