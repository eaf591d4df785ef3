"""MONAI is loaded without what it can do without, and the shipped config gives the same label map."""

from __future__ import annotations

import subprocess
import sys

from bundle.inference.segmenter import Segmenter
from tests.conftest import ROOT

RUN = """
import runpy, sys
from bundle.lean import WITHHELD
try:
    runpy.run_module("scripts.segment", run_name="__main__", alter_sys=True)
finally:
    print("loaded:", *(name for name in WITHHELD if name in sys.modules))
"""


def loaded_by(*arguments: object) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run ``scripts.segment`` and return what became of it, and which of ``WITHHELD`` it loaded."""
    command = [sys.executable, "-c", RUN, *map(str, arguments), "--device", "cpu", "--precision", "float32"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    return done, done.stdout.splitlines()[-1].removeprefix("loaded:").split()


def test_shipped_config_is_run_without_it_and_gives_the_same_label_map(tiny_scan, tmp_path):
    done, loaded = loaded_by(tiny_scan, "--output-dir", tmp_path / "lean")
    assert (done.returncode, loaded) == (0, []), done.stderr
    paths = Segmenter(output_dir=str(tmp_path / "whole"), device="cpu", precision="float32").segment(tiny_scan)
    lean = tmp_path / "lean" / paths.label_map.relative_to(tmp_path / "whole")
    assert lean.read_bytes() == paths.label_map.read_bytes()
    assert {path.name for path in lean.parent.iterdir()} == {path.name for path in paths.label_map.parent.iterdir()}


def test_withheld_packages_can_be_loaded_afterwards_and_a_loaded_monai_is_left_alone():
    program = (
        "import sys, bundle.lean as lean; lean.load_monai_alone(); assert not set(lean.WITHHELD) & set(sys.modules); "
        "import matplotlib, scipy.spatial, ignite; kept = set(sys.modules); lean.load_monai_alone(); "
        "assert set(sys.modules) == kept; print('done')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout == "done\n", done.stderr


def test_config_of_ones_own_has_all_of_monai(tiny_scan, tiny_config, tmp_path):
    done, loaded = loaded_by(tiny_scan, "--output-dir", tmp_path, "--config", tiny_config)
    assert done.returncode == 0, done.stderr
    assert "ignite" in loaded
