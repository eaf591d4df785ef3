"""The plan of a scan: what it says beside what is measured, what it refuses, and windows that are made to fit."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch.nn import functional

from bundle.errors import InputError, OptionError
from bundle.inference import StreamInferer
from bundle.inference.calibration import Calibration, Calibrations, memory_growth
from bundle.inference.plan import Plan, held_memory, make_plan, parse_size
from bundle.inference.slabs import Windows
from tests.threads import one_thread

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "size"),
    [("3G", 3_000_000_000), ("800M", 800_000_000), ("1.5 GB", 1_500_000_000), (2_000, 2_000), ("64k", 64_000)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["much", "-3G", "0", "3P", ""])
def test_what_is_no_size_is_refused_in_a_line(text):
    with pytest.raises(OptionError, match="such as 3G or 800M is wanted"):
        parse_size(text)


def plan_of(size, window, classes=33, bytes_of_a_voxel=400, **options):
    windows = Windows(size, window, (0.25,) * 3)
    known = Calibration(window, 1, bytes_of_a_voxel * int(np.prod(window)), 2.0)
    return Plan(windows, classes, int(np.prod(size)), False, known, 10**9, **options)


class Known(Calibrations):
    """What a window takes goes by its voxels."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def find(self, window, batch):
        return self.plan.calibration.scaled(window, batch)


def test_memory_of_long_scans_grows_by_scan_and_labels_alone():
    plans = [plan_of((192, 192, length), (96, 96, 32)) for length in (150, 300, 600, 1200)]
    assert {plan.windows.axis for plan in plans[1:]} == {2}
    assert len({plan.slab_bytes for plan in plans}) == 1
    running = [plan.more_bytes - plan.scan_voxels for plan in plans[:2]]
    assert running[0] == running[1]


def test_a_scan_that_does_not_fit_is_refused_with_the_windows_that_would():
    plan = plan_of((160, 192, 160), (152, 192, 152))
    assert make_plan("scan.nii", plan, Known(plan), plan.bytes + 1) is plan
    with pytest.raises(InputError, match=r"^scan.nii: needs .* GB .*, found .* GB; windows of .* would fit") as caught:
        make_plan("scan.nii", plan, Known(plan), plan.bytes - 10**8)
    assert caught.value.code == "memory"
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no smaller window would fit"):
        make_plan("scan.nii", plan, Known(plan), plan.held + 1000)


def test_smaller_windows_are_taken_where_the_model_allows_them():
    plan = plan_of((160, 192, 160), (152, 192, 152))
    limit = plan.bytes - 3 * 10**8
    fitting = make_plan("scan.nii", plan, Known(plan), limit, smallest=(64, 64, 64))
    assert fitting.bytes <= limit
    assert all(64 <= found <= usual for found, usual in zip(fitting.windows.window, (152, 192, 152), strict=True))
    with pytest.raises(InputError, match="smallest_window allows them"):
        make_plan("scan.nii", plan, Known(plan), limit, smallest=(150, 190, 150))


def test_what_was_measured_is_kept_for_networks_of_one_structure(tmp_path):
    networks = [torch.nn.Conv3d(1, width, 3) for width in (4, 4, 5)]
    first, same, other = (Calibrations(network, CPU, tmp_path) for network in networks)
    assert first.find((8, 8, 8), 1) is None
    first.keep(Calibration((8, 8, 8), 1, 1000, 0.5))
    assert same.find((8, 8, 8), 1) == Calibration((8, 8, 8), 1, 1000, 0.5)
    assert same.find((8, 8, 16), 1) == Calibration((8, 8, 16), 1, 2000, 1.0)
    assert other.find((8, 8, 8), 1) is None
    before = first.file.read_text()
    first.keep(Calibration((8, 8, 8), 1, 1050, 0.51))  # nothing new
    assert first.file.read_text() == before
    first.file.write_text("{")
    assert first.find((8, 8, 8), 1) is None


def test_a_cache_that_cannot_be_written_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    found = Calibrations(torch.nn.Conv3d(1, 4, 3), CPU, tmp_path / "file")
    found.keep(Calibration((8, 8, 8), 1, 1000, 0.5))
    assert found.find((8, 8, 8), 1) is None


class Wide:
    """A network of 33 classes and some hundred bytes a voxel."""

    def __init__(self) -> None:
        self.weights = torch.randn(16, 1, 3, 3, 3), torch.randn(33, 16, 1, 1, 1)

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        return functional.conv3d(functional.conv3d(windows, self.weights[0], padding=1).relu(), self.weights[1])


def image_of(size) -> MetaTensor:
    meta = {"original_affine": np.eye(4), "spatial_shape": np.array(size), "filename_or_obj": "scan.nii"}
    return MetaTensor(torch.rand(1, 1, *size), affine=torch.eye(4), meta=meta)


@pytest.mark.parametrize("window", [(120, 120, 140), (60, 120, 70)], ids=["one window", "several"])
def test_the_plan_foretells_the_memory_of_the_second_scan(window, tmp_path):
    lines = []
    inferer = StreamInferer(window, cache_dir=tmp_path)
    inferer.show = lines.append
    image, network = image_of((120, 120, 140)), Wide()
    with one_thread():
        inferer(image, network)
        gc.collect()
        plan, watched = None, Calibrations(network, CPU, tmp_path)
        windows = inferer.windows(image.shape[2:])
        known = watched.find(windows.window, 1)
        plan = Plan(windows, 33, image[0, 0].numel(), False, known, held_memory())
        before = held_memory()
        with memory_growth(CPU) as growth:
            inferer(image, network)
    assert lines[0].startswith("plan ")
    assert "at least" in lines[0]
    assert "about" in lines[1]
    assert " s" in lines[1]
    writing = replace(plan, scan_voxels=0).more_bytes  # nothing is written here
    assert growth[0] + before == pytest.approx(writing + before, rel=0.2)


def test_an_inferer_refuses_what_does_not_fit_and_runs_no_window_of_it(tmp_path):
    calls = []

    def network(windows):
        calls.append(tuple(windows.shape[2:]))
        return Wide()(windows)

    inferer = StreamInferer((120, 120, 140), max_memory=held_memory() + 50_000_000, cache_dir=tmp_path)
    with pytest.raises(InputError, match=r"^scan.nii: needs"):
        inferer(image_of((120, 120, 140)), network)
    assert set(calls) <= {(16, 16, 16), (64, 64, 64)}  # a small one was tried


def test_an_inferer_takes_windows_that_fit(tmp_path):
    shapes, wide = set(), Wide()

    def network(windows):
        shapes.add(tuple(windows.shape[2:]))
        return wide(windows)

    image = image_of((96, 96, 200))
    usual = StreamInferer((96, 96, 200), cache_dir=tmp_path)(image, network)
    shapes.clear()
    limit = held_memory() + 400_000_000
    inferer = StreamInferer((96, 96, 200), max_memory=limit, smallest_window=(32, 32, 32), cache_dir=tmp_path)
    found = inferer(image, network)
    assert all(max(shape) < 200 for shape in shapes)
    assert (found != usual).float().mean() < 0.2  # a convolution sees less at the borders of windows
