"""Stray pieces where a scan is streamed: taken from all logits of one slab, from the likeliest classes of several."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from bundle.inference import keep_largest_components, mean_margins, restore_labels, stream_labels
from bundle.inference.slabs import Windows
from bundle.io import scratch
from tests.bundle.inference.test_restore import rotation

SIZE, CLASSES = (44, 30, 26), 12
ONE_PIECE = [1, 2, 3, 5, 8]
ALONG = np.diag([0.8, 0.7, 1.1, 1.0])
SCANS = {"along the axes": (ALONG, (50, 40, 22)), "oblique": (ALONG @ rotation(12, 1), (46, 38, 24))}


@cache
def all_logits(seed: int) -> torch.Tensor:
    """Return smooth logits of structures in many pieces, axes (classes, X, Y, Z); nobody may change them."""
    noise = np.random.default_rng(seed).standard_normal((CLASSES, *SIZE))
    return torch.from_numpy(np.stack([gaussian_filter(channel, 1.5) for channel in noise]) * 60).float()


class Playback:
    """A network that looks up the logits of a window in those of the whole image, which holds the places of voxels."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits.flatten(1)

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        return self.logits[:, windows[:, 0].long()].movedim(0, 1)


def streamed(logits, scan, window, **options):
    image = torch.arange(float(np.prod(SIZE))).view(1, 1, *SIZE)
    windows = Windows(SIZE, window, (0.25,) * 3)
    return stream_labels(image, Playback(logits), windows, *scan, ONE_PIECE, **options)


def at_once(logits, scan):
    dropped, apart = Counter(), Counter()
    kept = keep_largest_components(logits.clone(), ONE_PIECE, dropped, apart)
    return restore_labels(kept, np.eye(4), *scan), dict(+dropped), dict(+apart), mean_margins(kept)


@pytest.mark.parametrize("name", SCANS)
def test_one_window_gives_what_the_logits_at_once_do(name):
    logits = all_logits(1)
    labels, dropped, apart, confidence = at_once(logits, SCANS[name])
    found, notes = streamed(logits.clone(), SCANS[name], SIZE)
    assert torch.equal(found, labels)
    assert (notes.dropped, notes.apart) == (dropped, apart)
    assert notes.confidence == pytest.approx(confidence, abs=1e-5)


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("in_memory", [scratch.IN_MEMORY, 0], ids=["in memory", "in a file"])
def test_several_slabs_differ_in_few_of_the_voxels_that_stray_pieces_change(name, in_memory, monkeypatch):
    monkeypatch.setattr(scratch.scratch_array, "__defaults__", (in_memory,))
    changed = differing = 0
    for seed in range(3):
        logits = all_logits(seed)
        labels, dropped, apart, confidence = at_once(logits, SCANS[name])
        found, notes = streamed(logits, SCANS[name], (12, 30, 16))
        changed += int((labels != restore_labels(logits, np.eye(4), *SCANS[name])).sum())
        differing += int((found != labels).sum())
        assert (notes.dropped, notes.apart) == (dropped, apart)
        assert notes.confidence == pytest.approx(confidence, abs=0.01)
    assert changed > 1000
    assert differing < 0.03 * changed


def test_what_is_far_from_a_stray_piece_stays():
    logits = torch.zeros(3, *SIZE)
    logits[1, 4:20, 4:20, 4:20] = 5
    logits[2, 3:21, 3:21, 3:21] = 3
    logits[1, 40, 25, 20], logits[2, 40, 25, 20] = 5, 4
    found, notes = streamed(logits, (np.eye(4), SIZE), (12, 30, 16))
    expected = logits.argmax(dim=0)
    assert expected[40, 25, 20] == 1
    expected[40, 25, 20] = 0  # class 2 gets it and loses it too
    assert torch.equal(found.long(), expected)
    assert notes.dropped == {1: 1}
