"""MONAI is loaded without what it can do without, and the shipped config gives the same label map."""

from __future__ import annotations

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from bundle.inference.segmenter import Segmenter
from tests.conftest import ROOT

RUN = """
import runpy, sys
from bundle.lean import WITHHELD, load_monai_alone
try:
    runpy.run_module("scripts.segment", run_name="__main__", alter_sys=True)
finally:
    print("loaded:", *(name for name in WITHHELD if name in sys.modules))
    import ignite, matplotlib, scipy.spatial
    kept = set(sys.modules)
    load_monai_alone()
    assert set(sys.modules) == kept
"""
"""Runs ``scripts.segment``; then what was withheld can be loaded, and a loaded MONAI is left alone."""


def loaded_by(*arguments: object) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run ``scripts.segment`` and return what became of it, and which of ``WITHHELD`` it loaded."""
    command = [sys.executable, "-c", RUN, *map(str, arguments), "--device", "cpu", "--precision", "float32"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    return done, done.stdout.splitlines()[-1].removeprefix("loaded:").split()


@pytest.fixture(scope="module")
def part(small_scan, tmp_path_factory):
    """Some centimetres of a brain, which take seconds at the voxel size of the shipped config."""
    path = tmp_path_factory.mktemp("part") / "part.nii.gz"
    nib.load(small_scan).slicer[20:36, 30:46, 24:40].to_filename(path)
    return path


def test_shipped_config_is_run_without_it_and_gives_the_same_label_map(part, tmp_path):
    done, loaded = loaded_by(part, "--output-dir", tmp_path / "lean")
    assert (done.returncode, loaded) == (0, []), done.stderr
    paths = Segmenter(output_dir=str(tmp_path / "whole"), device="cpu", precision="float32").segment(part)
    lean = tmp_path / "lean" / paths.label_map.relative_to(tmp_path / "whole")
    assert lean.read_bytes() == paths.label_map.read_bytes()
    assert len(np.unique(nib.load(lean).dataobj)) > 3
    assert {path.name for path in lean.parent.iterdir()} == {path.name for path in paths.label_map.parent.iterdir()}


REFUSED = """
import runpy, bundle.lean
def refuse():
    raise RuntimeError("MONAI was to be loaded alone")
bundle.lean.load_monai_alone = refuse
runpy.run_module("scripts.segment", run_name="__main__", alter_sys=True)
"""


def test_only_the_shipped_config_asks_for_it(host, part, tiny_config, tmp_path):
    given = ("-c", REFUSED, part, "--device", "cpu", "--output-dir", tmp_path)
    assert "MONAI was to be loaded alone" in host.run(*given).stderr
    own = host.run(*given, "--config", tiny_config)
    assert own.returncode == 0, own.stderr


@pytest.mark.slow
def test_config_of_ones_own_has_all_of_monai(part, tiny_config, tmp_path):
    done, loaded = loaded_by(part, "--output-dir", tmp_path, "--config", tiny_config)
    assert done.returncode == 0, done.stderr
    assert "ignite" in loaded
