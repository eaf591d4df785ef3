"""What a process does for a cohort: it loads the model once, then takes scan after scan.

Whatever goes wrong with a scan comes back as a :class:`Result`; only the end of the process itself is for the parent to
notice. ``tests/bundle/cohort/test_worker.py`` holds it.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import warnings
from typing import TYPE_CHECKING

from bundle.cohort.attempts import attempts, failure, make_segmenter
from bundle.cohort.messages import Case, Readiness, Result, Settings
from bundle.errors import BundleError, error_line, root_cause
from bundle.labels import read_labels
from bundle.privacy import keep_matplotlib_out_of_home
from bundle.provenance import bundle_version

if TYPE_CHECKING:
    from bundle.inference.segmenter import Segmenter

_one_at_a_time = threading.Lock()
"""A worker may have several threads; the network uses all cores for one scan."""


def prepare(settings: Settings) -> Readiness:
    """Load the model, unless this process has it already."""
    try:
        with _one_at_a_time:
            return readiness_of(_segmenter(settings))
    except Exception as error:
        cause = root_cause(error)
        code = cause.code if isinstance(cause, BundleError) else ""
        return Readiness(socket.gethostname(), os.getpid(), error=error_line(error), code=code)


def readiness_of(segmenter: Segmenter) -> Readiness:
    """Return what a process says of the model that it has loaded."""
    maker = segmenter.maker
    made_by = {"bundle": bundle_version(), "weights": maker.weights_content, "config": maker.config_content}
    table = tuple(read_labels(segmenter.label_table))
    return Readiness(socket.gethostname(), os.getpid(), segmenter.engine, made_by, table)


def prepare_process(settings: Settings) -> Readiness:
    """Load the model in a process that is nothing but a worker, and let its libraries keep silent as programs do."""
    logging.disable(logging.WARNING)
    keep_matplotlib_out_of_home()
    return prepare(settings)


def segment_case(case: Case, settings: Settings) -> Result:
    """Segment a scan, unless its result is there and still holds."""
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries; this bundle's are in the result
        try:
            segmenter = _segmenter(settings)
        except Exception as error:  # another process would have it too
            return failure(case, error)
        ((_, result),) = attempts([case], segmenter, settings, overlap=False)
    return result


@functools.lru_cache(maxsize=1)
def _segmenter(settings: Settings) -> Segmenter:
    """Return the segmenter of this process; the first call loads it."""
    return make_segmenter(settings)
