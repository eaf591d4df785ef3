"""What stands in for segmentation in tests of what surrounds it: a scan's name says what becomes of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from bundle.cohort.messages import DONE, FAILED, Case, Readiness, Result, Settings
from bundle.labels import Label

STRUCTURES = ("Left-Hippocampus", "Right-Hippocampus")
TABLE = tuple(Label(channel, channel, name, (0, 0, 0)) for channel, name in enumerate(("Background", *STRUCTURES)))


def prepare(settings: Settings) -> Readiness:
    if "prepare_dies" in settings.config:
        os.kill(os.getpid(), signal.SIGKILL)
    if "prepare_fails" in settings.config:
        return Readiness("here", os.getpid(), error="model.pt: found nothing; weights are wanted", code="weights")
    return Readiness("here", os.getpid(), "stub", {}, TABLE)


def segment(case: Case, settings: Settings) -> Result:
    """Note the attempt, with the process that made it, and do what the id says."""
    with open(Path(settings.output_dir) / f"{case.id}.tried", "a") as file:
        file.write(f"{os.getpid()}\n")
    if case.id.startswith("kills"):
        os.kill(os.getpid(), signal.SIGKILL)
    if case.id.startswith("kills_once") or case.id.startswith("slow"):
        time.sleep(1)
    if case.id.startswith("ends"):  # what it returns is lost, or not: both may be
        threading.Timer(0, os.kill, (os.getpid(), signal.SIGKILL)).start()
    if case.id.startswith("bad"):
        return Result(FAILED, code="damaged", reason="found half of it", again=True)
    if case.id.startswith("wrong"):
        return Result(FAILED, code="format", reason="found a text", again=False)
    return Result(DONE)


def attempts(folder: Path, case: str) -> list[str]:
    """Return the processes that tried a scan, in order."""
    return (folder / f"{case}.tried").read_text().split()
