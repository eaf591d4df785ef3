"""The sample volume: nilearn's MNI152 T1 template, written as a NIfTI file that the bundle accepts."""

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nilearn.datasets import load_mni152_template

from scripts.sample_volume import main

MNI_ORIGIN = (-98.0, -134.0, -72.0)  # mm, of the first voxel


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "made" / "mni152_t1.nii.gz"
    assert main([str(path)]) == 0
    return path


def test_geometry_is_that_of_the_mni152_space(sample: Path) -> None:
    image = nibabel.load(sample)
    expected = np.eye(4)
    expected[:3, 3] = MNI_ORIGIN
    assert image.shape == (197, 233, 189)
    assert image.header.get_zooms() == (1.0, 1.0, 1.0)
    assert image.header.get_xyzt_units()[0] == "mm"
    for affine, code in (image.get_sform(coded=True), image.get_qform(coded=True)):
        np.testing.assert_array_equal(affine, expected)
        assert code == 4


def test_voxels_are_those_of_the_template(sample: Path) -> None:
    image = nibabel.load(sample)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(
        image.get_fdata(dtype=np.float32), load_mni152_template(resolution=1).get_fdata(dtype=np.float32)
    )


def test_existing_file_is_refused_and_kept(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sample.read_bytes()
    assert main([str(sample)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [f"error: {sample}: exists already; a free name, or overwrite, is wanted"]
    assert sample.read_bytes() == before


def test_overwrite_writes_the_same_bytes_and_leaves_nothing_beside_them(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"old")
    assert main([str(path), "--overwrite"]) == 0
    assert capsys.readouterr().out == f"{path}  197 x 233 x 189 voxels of 1 mm\n"
    assert path.read_bytes() == sample.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["scan.mgz", "scan", "scan.nii.gz.txt"])
def test_names_other_than_nifti_are_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / name)]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / name}: found another extension; .nii or .nii.gz is wanted\n"
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(image: nibabel.Nifti1Image, path: Path) -> None:
        Path(path).write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(nibabel, "save", fill_the_disk)
    assert main([str(tmp_path / "scan.nii")]) == 1
    assert not list(tmp_path.iterdir())


def test_importing_the_program_loads_no_imaging_library() -> None:
    program = "import sys, scripts.sample_volume; print({'numpy', 'nibabel', 'nilearn', 'torch'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout == "set()\n"
