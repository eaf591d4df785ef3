"""What a process does for a cohort: it loads the model once, then takes scan after scan.

Nothing that goes wrong with a scan leaves :func:`segment_case` as an exception: what comes back is always a
:class:`Result`, which is plain enough for any process to read. Only the end of the process itself is for the parent to
notice. ``tests/bundle/cohort/test_worker.py`` holds it.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import time
import warnings
from typing import TYPE_CHECKING

from bundle.cohort.messages import DONE, FAILED, SKIPPED, Case, Readiness, Result, Settings
from bundle.cohort.resume import standing_of
from bundle.cohort.rows import row_of
from bundle.errors import BundleError, BundleWarning, error_line, root_cause
from bundle.io.whole import sweep
from bundle.labels import read_labels
from bundle.privacy import keep_matplotlib_out_of_home
from bundle.provenance import bundle_version
from bundle.results import OutputPaths

if TYPE_CHECKING:
    from bundle.inference.segmenter import Segmenter

FINAL = ("format", "shape", "type", "geometry", "intensities", "labels", "grid", "pairs", "option", "exists")
"""Codes of errors that another attempt would meet again: they are of what the file holds, not of the moment."""

_one_at_a_time = threading.Lock()
"""A worker may have several threads; the network uses all cores for one scan."""


def prepare(settings: Settings) -> Readiness:
    """Load the model, unless this process has it already."""
    host, pid = socket.gethostname(), os.getpid()
    try:
        with _one_at_a_time:
            segmenter = _segmenter(settings)
        maker = segmenter.maker
    except Exception as error:
        cause = root_cause(error)
        return Readiness(host, pid, error=error_line(error), code=cause.code if isinstance(cause, BundleError) else "")
    made_by = {"bundle": bundle_version(), "weights": maker.weights_content, "config": maker.config_content}
    return Readiness(host, pid, segmenter.engine, made_by, tuple(read_labels(segmenter.label_table)))


def prepare_process(settings: Settings) -> Readiness:
    """Load the model in a process that is nothing but a worker, and let its libraries keep silent as programs do."""
    logging.disable(logging.WARNING)
    keep_matplotlib_out_of_home()
    return prepare(settings)


def segment_case(case: Case, settings: Settings) -> Result:
    """Segment a scan, unless its result is there and still holds."""
    started = time.perf_counter()
    with _one_at_a_time, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", BundleWarning)
        try:
            result = _segmented(case, settings)
        except Exception as error:  # of this scan alone
            result = _failed(case, error)
    lines = tuple(dict.fromkeys(" ".join(str(entry.message).split()) for entry in caught))
    given = {key: getattr(result, key) for key in ("status", "row", "code", "reason", "again")}
    return Result(**given, warnings=lines, seconds=round(time.perf_counter() - started, 3))


def _segmented(case: Case, settings: Settings) -> Result:
    segmenter = _segmenter(settings)
    folder = case.folder(settings.output_dir)
    paths = OutputPaths.of(case.image, folder)
    reason = ""
    sweep(paths.record.parent, settled=0)  # whoever was at it has been killed: the output folder is this run's
    if not settings.overwrite:
        standing = standing_of(paths, case.image, segmenter.maker, settings.trust_mtime)
        if standing.record is not None:
            return Result(SKIPPED, row_of(standing.record, paths))
        reason = standing.reason
    segmenter.write_to(folder)
    segmenter.segment(case.image)
    return Result(DONE, row_of(None, paths), reason=reason)


def _failed(case: Case, error: Exception) -> Result:
    cause = root_cause(error, case.image)
    code = cause.code if isinstance(cause, BundleError) else None
    return Result(FAILED, code=code, reason=error_line(error, case.image), again=code not in FINAL)


@functools.lru_cache(maxsize=1)
def _segmenter(settings: Settings) -> Segmenter:
    """Return the segmenter of this process; the first call loads it."""
    import torch

    from bundle.inference.segmenter import Segmenter

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    overrides = dict(settings.overrides)
    if "device" in overrides:
        overrides["device"] = torch.device(overrides["device"])  # a string could be an expression of MONAI's
    return Segmenter(list(settings.config), output_dir=settings.output_dir, overwrite=True, **overrides)
