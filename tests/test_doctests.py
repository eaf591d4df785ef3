"""What docstrings and the README show in Python does what they say."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import warnings

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import ROOT

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder in ("bundle", "networks", "scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_there_are_examples_in_both_packages():
    assert {name.partition(".")[0] for name in MODULES} >= {"bundle", "networks"}


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_do_what_they_show(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        failed, tried = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert tried
    assert not failed


def test_the_example_of_the_readme_runs_in_any_folder_and_leaves_what_it_saves(host, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    head = np.random.default_rng(0).random((20, 24, 20), dtype=np.float32)
    folder, home = tmp_path / "work", tmp_path / "home"
    for place in (folder, home):
        place.mkdir()
    nib.Nifti1Image(head, np.diag([2, 2, 2, 1])).to_filename(folder / "scan.nii.gz")
    code = f"{example}\nprint(left_hippocampus_mm3 >= 0, len(reasons_to_look_twice) > 0)"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL"))}
    own = {"HOME": str(home), "TMPDIR": str(folder)}
    quiet = "import warnings\nwarnings.simplefilter('ignore')\n"
    done = host.run("-c", quiet + code, folder=folder, environment=kept | own)
    assert done.stderr == ""
    assert done.stdout == "True True\n"
    assert sorted(path.name for path in folder.iterdir()) == ["labels.nii.gz", "scan.nii.gz"]
    assert nib.load(folder / "labels.nii.gz").shape == head.shape
    assert list(home.iterdir()) == []
