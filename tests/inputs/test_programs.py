"""The corpus through scripts.segment: one line for each file that is refused, and label maps of the others."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import DataLoader, Dataset, decollate_batch
from monai.transforms import LoadImaged

from bundle.evaluation import read_grid
from bundle.io import NiftiReader, read_label_map, write_label_map
from bundle.io.names import volume_stem
from bundle.io.reading import Reading, reading_of
from tests.inputs.case import AFFINE, Case, head
from tests.inputs.corpus import ACCEPTED, ALL
from tests.inputs.places import both

FAST = ("--engine", "torch", "--precision", "float32", "--device", "cpu")
SEGMENTED = (
    "NIfTI-2", "left-handed", "(X, Y, Z, 1)", "newline", "quotes", "$ in the name", "MGZ", "pair, by its header",
)  # fmt: skip
"""Of the accepted ones without options; the reader's test has all of them."""
WITH_OPTIONS = {
    "frame 1 of 4D": ("--frame", "1"),
    "frame 1 of an MGZ": ("--frame", "1"),
    "NaN and Inf, filled": ("--fill-nonfinite",),
    "sform trusted": ("--trust-sform",),
    "qform trusted, sform upside down": ("--trust-qform",),
    "qform trusted, sform singular": ("--trust-qform",),
    "no affine, assumed": ("--assume-affine",),
}
FOLDERS = ("a folder",)
"""A folder stands for the scans in it, whatever its name."""


def case_of(name: str) -> Case:
    return next(case for case in ACCEPTED if case.name == name)


def write_apart(cases: list[Case], root: Path) -> dict[str, Path]:
    """Write cases into folders of their own and return their paths by name, the first of those whose results clash."""
    written: dict[str, tuple[str, Path]] = {}
    for number, case in enumerate(cases):
        path = case.write(root / str(number))
        written.setdefault(volume_stem(path), (case.name, path))
    return dict(written.values())


@pytest.fixture(scope="module")
def coarsest(tmp_path_factory, coarse_config):
    """The inference at 12 mm."""
    path = tmp_path_factory.mktemp("coarsest") / "coarsest.json"
    path.write_text(coarse_config.read_text().replace("[3.0, 3.0, 3.0]", "[12.0, 12.0, 12.0]"))
    return path


@pytest.mark.parametrize("sound", [SEGMENTED, pytest.param(None, marks=pytest.mark.slow)], ids=["some", "all"])
def test_batch_of_odd_files_names_each_and_does_the_rest(run_main, coarsest, tmp_path, sound):
    accepted = [
        case for case in ACCEPTED
        if (case.name in sound if sound else not case.reading and case.name != "a name of 255 bytes")
    ]  # fmt: skip
    refused = [
        case for case in ALL
        if case.code and not case.reading and not case.as_nobody and "/" not in case.file and case.name not in FOLDERS
    ]  # fmt: skip
    paths = write_apart([*accepted, *refused], tmp_path)
    good = {case.name for case in accepted} & paths.keys()
    bad = [case for case in refused if case.name in paths]
    assert len(good) >= len(SEGMENTED)
    assert len(bad) > 150
    done = run_main("scripts.segment", *paths.values(), "--config", coarsest, "--output-dir", tmp_path / "out", *FAST)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(bad), done.stderr
    for line, case in zip(lines, bad, strict=True):
        assert line.startswith(f"error: {paths[case.name].parent}/"), (case.name, line)
        assert case.says in line
    results = sorted((tmp_path / "out").glob("*/*_seg.nii.gz"))
    assert len(results) == len(good)
    assert all(len(list(result.parent.iterdir())) == 5 for result in results)


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_options_reach_the_reader_and_the_label_map(run_main, coarsest, tmp_path, name):
    case = case_of(name)
    path = case.write(tmp_path)
    without = run_main("scripts.segment", path, "--config", coarsest, "--output-dir", tmp_path / "out", *FAST)
    assert without.returncode == 1
    assert f"error: {path}: " in without.stderr
    assert WITH_OPTIONS[name][0] in without.stderr
    done = run_main(
        "scripts.segment", path, "--config", coarsest, "--output-dir", tmp_path / "out", *FAST, *WITH_OPTIONS[name]
    )
    assert done.returncode == 0, done.stderr
    (result,) = (tmp_path / "out").glob("*/*_seg.nii.gz")
    image = nib.load(result)
    assert image.shape == head().shape
    wanted = nib.load(path).get_qform() if case.reading.get("trust") == "qform" else nib.load(path).affine
    np.testing.assert_allclose(image.affine, wanted, rtol=1e-6, atol=1e-4)
    # The label map stands for itself: it needs no option, but where the scan says nothing.
    grid = read_grid(result, assume_affine=case.reading.get("assume_affine", False))
    np.testing.assert_allclose(grid.affine, wanted, rtol=1e-6, atol=1e-4)


def test_label_map_of_a_frame_has_the_geometry_fields_of_three_axes(tmp_path):
    path = case_of("frame 5 of 7D").write(tmp_path)
    labels = np.random.default_rng(0).integers(0, 60, head().shape)
    result = write_label_map(labels, path, tmp_path / "seg.nii.gz", frame=5)
    header, scan = nib.load(result).header, nib.load(path).header
    assert header["dim"].tolist() == [3, *head().shape, 1, 1, 1, 1]
    for field in ("srow_x", "srow_y", "srow_z", "sform_code", "qform_code", "quatern_b", "qoffset_x", "xyzt_units"):
        assert header[field].tobytes() == scan[field].tobytes(), field
    np.testing.assert_array_equal(read_label_map(result).codes, labels)


def test_trusted_form_stays_beside_one_that_agrees(tmp_path):
    both(AFFINE, AFFINE, 4, 1)(tmp_path / "scan.nii")
    labels = np.zeros(head().shape, np.int16)
    header = nib.load(write_label_map(labels, tmp_path / "scan.nii", tmp_path / "seg.nii", trust="qform")).header
    assert (header["sform_code"], header["qform_code"]) == (4, 1)


@pytest.mark.parametrize(
    "name", ["MGZ, oblique", "MGZ, left-handed", "pair, compressed, by its image", "pair, NIfTI-2"]
)
def test_label_map_of_other_formats_is_a_nifti_file_on_the_scans_grid(tmp_path, name):
    path = case_of(name).write(tmp_path)
    labels = np.random.default_rng(0).integers(0, 60, head().shape)
    image = nib.load(write_label_map(labels, path, tmp_path / "seg.nii.gz"))
    scan = nib.load(path)
    assert isinstance(image, nib.Nifti2Image if "NIfTI-2" in name else nib.Nifti1Image)
    np.testing.assert_array_equal(np.asarray(image.dataobj), labels)
    np.testing.assert_allclose(image.affine, scan.affine, rtol=1e-6, atol=1e-4)
    if "MGZ" in name:
        assert image.header.get_xyzt_units()[0] == "mm"
        np.testing.assert_allclose(image.header.get_zooms(), scan.header.get_zooms(), rtol=1e-6)
        np.testing.assert_allclose(image.get_qform(), scan.affine, atol=1e-3)


@pytest.mark.parametrize("batched", [False, True])
def test_how_a_scan_was_read_travels_with_the_image(tmp_path, batched):
    data = np.stack([head(), head() * 2], -1).astype(np.float32)
    data[:4, 0, 0, 1] = np.nan
    image = nib.Nifti1Image(data, None)
    image.header.set_qform(AFFINE + np.eye(4, k=3) * 5, 1)
    image.header.set_sform(AFFINE, 4)
    nib.save(image, tmp_path / "scan.nii")
    load = LoadImaged("image", reader=NiftiReader(fill_nonfinite=True, frame=1, trust="qform"))
    item = {"image": str(tmp_path / "scan.nii")}
    loaded = decollate_batch(next(iter(DataLoader(Dataset([item], load)))))[0] if batched else load(item)
    wanted = Reading(True, 1, "qform", 4, "qform", pytest.approx(0, abs=1e-3), pytest.approx(5, abs=1e-3))
    assert reading_of(loaded["image"].meta) == wanted
    assert reading_of({}) == Reading()
