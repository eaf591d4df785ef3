"""Data and paths shared by the tests."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before PyTorch is loaded: workers share the cores
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))

import nibabel as nib
import numpy as np
import pytest

from scripts.sample_volume import write_sample_volume

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
COARSE = [3.0, 3.0, 3.0]
MEDIUM = [2.0, 2.0, 2.0]
"""mm; enough to tell structures and sides, and fast."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Put files of many slow tests first: a worker takes a file at a time, and the last ones have to be short."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish():
    """Spare the collector of garbage what is loaded by now: half a million objects that stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    """Keep converted models out of the user's cache, and an earlier run's out of this one; workers share theirs."""
    run = tmp_path_factory.getbasetemp()
    folder = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "cache_home"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


@pytest.fixture(scope="session")
def validation_dir() -> Path:
    """The real scans with manual labels, which a user does not have."""
    folder = SHARED_DATA / "brain_t1_validation"
    if not folder.is_dir():
        pytest.skip("the validation scans are not here; docs/data_license.txt says where they come from")
    return folder


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> Path:
    """nilearn's MNI152 T1 at 1 mm."""
    path = tmp_path_factory.mktemp("sample") / "mni152_t1.nii.gz"
    write_sample_volume(path)
    return path


@pytest.fixture(scope="session")
def small_scan(sample, tmp_path_factory) -> Path:
    """The MNI152 T1 averaged over blocks of 3 mm: a whole brain in 63 x 75 x 63 voxels."""
    image = nib.load(sample)
    data = image.get_fdata(dtype=np.float32)[:189, :225, :189]
    blocks = data.reshape(63, 3, 75, 3, 63, 3).mean(axis=(1, 3, 5))
    affine = image.affine @ np.diag([3, 3, 3, 1.0])
    affine[:3, 3] += image.affine[:3, :3] @ [1, 1, 1]  # the centre of the first block
    path = tmp_path_factory.mktemp("small") / "small.nii.gz"
    small = nib.Nifti1Image(blocks, affine)
    small.header.set_xyzt_units("mm", "sec")
    small.to_filename(path)
    return path


@pytest.fixture(scope="session")
def coarse_config(tmp_path_factory) -> Path:
    """The inference config at 3 mm in float32, which every processor computes alike, for programs that take a file."""
    return _config_at(COARSE, tmp_path_factory)


@pytest.fixture(scope="session")
def medium_config(tmp_path_factory) -> Path:
    """The same at 2 mm, where the network still finds structures of one piece."""
    return _config_at(MEDIUM, tmp_path_factory)


def _config_at(pixdim: list[float], tmp_path_factory) -> Path:
    changes = {"pixdim": pixdim, "precision": "float32", "flags": None}  # coarse labels would be flagged, and rightly
    config = json.loads((ROOT / "configs/inference.json").read_text()) | changes
    path = tmp_path_factory.mktemp("config") / "coarse.json"
    path.write_text(json.dumps(config))
    return path


def _leave_captured_streams_open() -> None:
    """Have the handler of absl, which tensorboard imports, hold the true stderr.

    Else it holds what pytest had put there when it was imported, and closes that as soon as a program configures
    logging while stderr is another: no test of this process could print again.
    """
    absl_logging = sys.modules.get("absl.logging")
    if absl_logging is not None:
        absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(scope="session")
def run_main():
    """Call a program's ``main`` from the bundle's root, within this process, and return what it would have printed."""

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(argument) for argument in arguments]
        out, err, before = io.StringIO(), io.StringIO(), Path.cwd()
        _leave_captured_streams_open()
        os.chdir(ROOT)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = importlib.import_module(name).main(command)
        except SystemExit as end:  # argparse
            code = end.code
        finally:
            os.chdir(before)
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    """Run programs in processes of their own that start at once, as children of one that has loaded what takes long."""
    from tests.host import running_host  # which has its root from here

    with running_host(tmp_path_factory.mktemp("printed")) as running:
        yield running


@pytest.fixture(scope="session")
def run_module():
    """Run ``python -m ...`` from the bundle's root in a true start of Python, which takes five seconds: see host."""

    def run(*arguments: object, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)

    return run


@pytest.fixture(scope="session")
def tiny_scan(small_scan, tmp_path_factory) -> Path:
    """The small scan averaged over blocks of 6 mm, for tests of what surrounds the network."""
    image = nib.load(small_scan)
    data = image.get_fdata(dtype=np.float32)[:62, :74, :62].reshape(31, 2, 37, 2, 31, 2).mean(axis=(1, 3, 5))
    affine = image.affine @ np.diag([2, 2, 2, 1.0])
    affine[:3, 3] += image.affine[:3, :3] @ [0.5, 0.5, 0.5]
    path = tmp_path_factory.mktemp("tiny") / "tiny.nii.gz"
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Path:
    """The inference config at 12 mm in float32: a segmentation takes half a second, and its labels mean nothing."""
    config = json.loads((ROOT / "configs/inference.json").read_text()) | {"pixdim": [12.0] * 3, "precision": "float32"}
    path = tmp_path_factory.mktemp("config") / "tiny.json"
    path.write_text(json.dumps(config))
    return path
