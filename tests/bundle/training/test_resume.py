"""A training that is killed goes on when the same command is given again, as if nothing had happened."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from io import StringIO

import numpy as np
import pytest
import torch
from PIL import Image

from bundle.training.curve import draw_training_curve
from tests.bundle.training.tiny_training import command, equal, train, weights
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
OPTIONS = {"epoch_length": 6, "max_epochs": 3, "val_interval": 1, "network_def#dropout_rate": 0.2}
KILLED_AFTER = "checkpoint_1.pt"
KILLED_OPTIONS = {**OPTIONS, "num_workers": 1}  # and the uninterrupted one without: workers change nothing


@pytest.fixture(scope="module")
def uninterrupted(phantom_maps, tmp_path_factory):
    """Folder of a training that ran through, and what it showed on stderr."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with redirect_stderr(StringIO()) as shown, pytest.MonkeyPatch.context() as patch:
        patch.setattr("bundle.training.history.draw_training_curve", draw_training_curve)
        train(phantom_maps, folder, **OPTIONS)
    return folder, shown.getvalue()


@pytest.fixture(scope="module")
def killed(phantom_maps, tmp_path_factory):
    """Folder of a training, with a worker process, that was killed in its second epoch."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = command(phantom_maps, folder, **KILLED_OPTIONS)
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (folder / KILLED_AFTER).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "model.pt").exists()
    # What a kill in the midst of writing leaves.
    (folder / ".unfinished-0").mkdir()
    (folder / ".unfinished-0" / "checkpoint_2.pt").write_bytes(b"the first bytes")
    (folder / ".unfinished-0.lock").touch()
    return folder


def test_killed_training_resumes_to_the_same_weights_and_curve(uninterrupted, killed, phantom_maps, caplog):
    whole, _ = uninterrupted
    for lock in killed.glob(".unfinished-*.lock"):
        os.utime(lock, (0, 0))  # a minute goes by: the lock of a folder that was not yet there may be a living one's
    with caplog.at_level(logging.INFO):
        train(phantom_maps, killed, **KILLED_OPTIONS)
    assert "Resumed from" in caplog.text
    assert not list(killed.glob(".unfinished-*"))
    for name in ("model.pt", "model_best.pt"):
        assert equal(weights(whole / name), weights(killed / name)), name
    assert (whole / "history.csv").read_text() == (killed / "history.csv").read_text()
    first, second = (torch.load(folder / "checkpoint_3.pt", weights_only=True) for folder in (whole, killed))
    assert first["best"] == second["best"]
    assert first["lr_scheduler"] == second["lr_scheduler"]
    for one, other in zip(first["optimizer"]["state"].values(), second["optimizer"]["state"].values(), strict=True):
        assert equal(one, other)


def test_command_shows_progress_over_the_whole_training(uninterrupted):
    folder, shown = uninterrupted
    assert "epoch 3/3 100%" in shown
    assert "step 18/18" in shown
    assert "loss=" in shown
    assert "val_mean_dice=" in shown
    assert sorted(path.name for path in folder.glob("*checkpoint*")) == ["checkpoint_2.pt", "checkpoint_3.pt"]


def test_training_curve_is_a_picture_with_three_lines(uninterrupted):
    folder, _ = uninterrupted
    pixels = np.asarray(Image.open(folder / "training_curve.png").convert("RGB")).reshape(-1, 3)
    for colour in ((0x1F, 0x5F, 0xA8), (0x2A, 0x8A, 0x4A), (0x8A, 0x4A, 0x2A)):
        assert (pixels == colour).all(axis=1).sum() > 200
