"""The files of a scan: all five or none."""

from __future__ import annotations

from dataclasses import astuple

import nibabel as nib
import numpy as np
import pytest

from bundle.errors import ExistsError
from bundle.labels import Label
from bundle.results import OutputPaths, check_outputs, save_outputs

TABLE = [Label(0, 0, "Background", (0, 0, 0)), Label(1, 7, "A", (255, 0, 0))]
NAMES = ["scan_qc.png", "scan_record.json", "scan_seg.json", "scan_seg.nii.gz", "scan_volumes.tsv"]


@pytest.fixture
def scan(tmp_path):
    """A scan in a folder of its own."""
    (tmp_path / "in").mkdir()
    data = np.random.default_rng(0).normal(100, 10, (12, 14, 10)).astype(np.float32)
    nib.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "in" / "scan.nii.gz")
    return tmp_path / "in" / "scan.nii.gz"


@pytest.fixture
def label_map():
    codes = np.zeros((12, 14, 10), dtype=np.int16)
    codes[4:8, 4:9, 3:7] = 7
    return codes


def content(folder):
    """Return the files below a folder and what is in them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_five_files_lie_in_a_folder_of_the_scans_name(scan, label_map, tmp_path):
    paths = save_outputs(label_map, scan, tmp_path / "new" / "out", TABLE)
    assert paths == OutputPaths.of(scan, tmp_path / "new" / "out")
    assert [f"scan/{name}" for name in NAMES] == list(content(tmp_path / "new" / "out"))
    assert np.array_equal(np.asarray(nib.load(paths.label_map).dataobj), label_map)
    assert "7\tA\t80\t80.000\tfalse\t\t\t\t\t\n" in paths.volumes.read_text()
    assert [path.name for path in (tmp_path / "new" / "out").iterdir()] == ["scan"]


@pytest.mark.parametrize("name", NAMES)
def test_existing_file_is_named_and_kept_unless_overwriting(scan, label_map, tmp_path, name):
    out = tmp_path / "out"
    (out / "scan").mkdir(parents=True)
    (out / "scan" / name).write_text("mine")
    for refused in (
        lambda: save_outputs(label_map, scan, out, TABLE),
        lambda: check_outputs([{"image": str(scan)}], out, overwrite=False),
    ):
        with pytest.raises(ExistsError, match=rf"{name}: exists already; a free name, or overwrite, is wanted"):
            refused()
    assert content(out) == {f"scan/{name}": b"mine"}
    check_outputs([{"image": str(scan)}], out, overwrite=True)
    save_outputs(label_map, scan, out, TABLE, overwrite=True)
    assert len(content(out)) == 5
    assert b"mine" not in content(out).values()


def test_failure_after_the_label_map_leaves_what_was_there(scan, label_map, tmp_path):
    out = tmp_path / "out"
    unknown = np.where(label_map == 7, 9, 0).astype(np.int16)
    with pytest.raises(ValueError, match="not in the label table"):
        save_outputs(unknown, scan, out, TABLE)
    assert not out.exists()
    paths = save_outputs(label_map, scan, out, TABLE)
    before = content(out)
    with pytest.raises(ValueError, match="not in the label table"):
        save_outputs(unknown, scan, out, TABLE, overwrite=True)
    assert content(out) == before
    assert all(path.is_file() for path in astuple(paths))
