"""The tiny network, its weights, its logits and its exports, each made once for the engines' and the forms' tests."""

from __future__ import annotations

import pytest
import torch

from bundle.export import Exporter
from tests.tiny_network import BATCHES, CLASSES, save_weights, tiny_network

# Scalar code, and a wrapper that is not optimised: the package computes the same, and the search for vectors alone
# takes a minute.
FAST_COMPILATION = {"cpp.simdlen": 1, "aot_inductor.compile_wrapper_opt_level": "O0"}


@pytest.fixture(scope="module", autouse=True)
def _no_curves():
    """Leave out the picture of a training's course, which takes longer than a training of seconds.

    ``test_resume.py`` and ``tests/scripts/test_new_task.py`` have it drawn.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bundle.training.history.draw_training_curve", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def tiny():
    """The tiny network; nobody may change it."""
    return tiny_network()


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny, tmp_path_factory):
    """Its weights on disk."""
    return save_weights(tiny, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_references(tiny):
    """Images of many sizes and batches, and the network's own logits of them."""
    images = [torch.rand(batch, 1, *size) for batch, *size in BATCHES]
    return [(image, tiny(image)) for image in images]


@pytest.fixture(scope="session")
def tiny_exporter(tiny, tiny_checkpoint):
    """What exports the tiny network, checked on one image."""
    metadata, images = {"name": "tiny", "version": "1.2.3"}, {"scan": torch.rand(1, 1, 24, 33, 18)}
    return Exporter(tiny, images, tiny_checkpoint, metadata, {"note": "config"}, range(CLASSES), [1.5] * 3)


@pytest.fixture(scope="session")
def export_tiny(tiny_exporter, tmp_path_factory):
    """Export a form when it is first asked for; all forms go into one folder."""
    folder, made = tmp_path_factory.mktemp("tiny_exports"), {}

    def run(form):
        if form not in made:
            with torch._inductor.config.patch(FAST_COMPILATION):
                made[form] = tiny_exporter.export(form, folder)
        return made[form]

    return run
