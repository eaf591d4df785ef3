"""What the documents show as a whole works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bundle.model import read_model
from tests.bundle.training.own_training import NETWORK_OPTIONS
from tests.conftest import ROOT
from tests.labelled import CODES, SHAPE, write_msd

LONGEST = 25
"""Lines of an example that somebody still reads."""


def blocks(document: str, language: str) -> list[str]:
    """Return the code blocks of a language in a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("docs/attention.md", "python"))
def test_snippet_of_the_attention_document_runs(block):
    exec(compile(block, "docs/attention.md", "exec"), {"__name__": "snippet"})


def test_there_are_snippets():
    shown = "".join(blocks("docs/attention.md", "python"))
    assert all(name in shown for name in ("SABlock(", "ViT(", "reset_classifier(", "assert"))


@pytest.mark.slow
def test_whole_example_leads_from_a_data_set_to_a_label_map_by_bare_torch(tmp_path):
    (script,) = blocks("docs/own_data.md", "bash")
    assert script.count("\n") <= LONGEST
    write_msd(tmp_path / "data")
    work = tmp_path / "work"
    quick = {"max_epochs": 1, "epoch_length": 2, "num_workers": 0, "precision": "float32", "init_checkpoint": ""}
    network = {name: value for name, value in NETWORK_OPTIONS.items() if "grid" not in name}
    options = [f"--{name}={value}" for name, value in {**quick, **network}.items()]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    done = subprocess.run(
        ["bash", "-s", str(tmp_path / "data"), str(work), *options],
        input=script, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model = read_model(work / "model")
    assert (model.task, len(model.held_out)) == ("my_task", 2)
    for case in model.held_out:
        assert (work / "labels" / case / f"{case}_seg.nii.gz").is_file()
        assert case in (work / "scores/scores.csv").read_text()
    labels = nib.load(work / "bare_torch.nii.gz")
    assert labels.shape == SHAPE
    assert set(np.unique(labels.dataobj)) <= set(CODES)
    assert done.stdout.splitlines()[-1].endswith(f"without the bundle: {work}/model/model.ts")
