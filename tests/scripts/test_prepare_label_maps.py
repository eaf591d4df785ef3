"""Label maps made ready for training: voxel size, place, codes, warps, and going on."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bundle.errors import ExistsError, OptionError
from bundle.io.packed import write_packed
from bundle.synthesis.resampling import majority, resampled_codes
from scripts.prepare_label_maps import main
from tests.phantom import SPACING, phantom_codes, write_phantoms


def centres(path, codes):
    """Mean world position of each code."""
    image = nib.load(path)
    voxels = np.asarray(image.dataobj)
    return [nib.affines.apply_affine(image.affine, np.argwhere(voxels == code).mean(0)) for code in codes]


def test_maps_get_the_voxel_size_and_stay_where_they_are(tmp_path, capsys):
    folder = write_phantoms(tmp_path / "heads", 2)
    turned = nib.load(folder / "phantom_1.nii.gz").as_reoriented(np.array([[0, -1], [2, 1], [1, 1]]))
    turned.to_filename(folder / "turned.nii.gz")
    assert main([str(folder), "--output", str(tmp_path / "out"), "--spacing", "4"]) == 0
    assert "3 label maps at 4 mm" in capsys.readouterr().out
    for name in ("phantom_1.nii.gz", "turned.nii.gz"):
        made = nib.load(tmp_path / "out" / "heads" / name)
        np.testing.assert_allclose(np.linalg.norm(made.affine[:3, :3], axis=0), 4.0, atol=1e-6)
        assert nib.aff2axcodes(made.affine) == ("R", "A", "S")
        for found, true in zip(
            centres(made.get_filename(), (2, 43, 16)), centres(folder / name, (2, 43, 16)), strict=True
        ):
            np.testing.assert_allclose(found, true, atol=1.0)
        share = (np.asarray(made.dataobj) == 2).sum() * 4.0**3 / ((phantom_codes() == 2).sum() * SPACING**3)
        assert share == pytest.approx(1, abs=0.05)


def test_a_map_of_the_wanted_spacing_keeps_its_codes(tmp_path):
    folder = write_phantoms(tmp_path / "heads", 1)
    codes, affine = resampled_codes(folder / "phantom_1.nii.gz", SPACING)
    start = np.rint(affine[:3, 3] / SPACING).astype(int)
    cut = phantom_codes()[tuple(slice(a, a + n) for a, n in zip(start, codes.shape, strict=True))]
    assert np.array_equal(codes, cut)


def test_each_voxel_takes_what_it_has_most_of():
    codes = np.zeros((6, 4, 4), np.int16)
    codes[:3], codes[3:] = 7, 300
    coarse = majority(codes, [0.5, 0.5, 0.5])
    assert coarse[:, 0, 0].tolist() in ([7, 7, 300], [7, 300, 300])
    assert coarse.shape == (3, 2, 2)


def test_what_is_there_is_kept_and_warps_are_made_once(tmp_path, monkeypatch):
    folder, output = write_phantoms(tmp_path / "heads", 2), tmp_path / "out"
    monkeypatch.setattr("bundle.synthesis.warps.STEPS", 2)
    assert main([str(folder), "--output", str(output), "--spacing", "3", "--warps"]) == 0
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert {path.name for path in before} == {"phantom_1.nii.gz", "phantom_2.nii.gz", "warps.pt"}
    (output / "heads" / "phantom_2.nii.gz").unlink()
    assert main([str(folder), "--output", str(output), "--spacing", "3", "--warps"]) == 0
    after = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    changed = {path.name for path in after if after[path] != before[path]}
    assert changed == {"phantom_2.nii.gz"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--spacing", "9"], "--spacing: found 9; 0.3 to 5 mm is wanted"),
        (["heads"], "folder: found two of the same name"),
    ],
)
def test_wrong_arguments_end_in_a_line(tmp_path, capsys, arguments, line):
    folder = write_phantoms(tmp_path / "heads", 1)
    given = [str(tmp_path / "x" / "heads") if part == "heads" else part for part in arguments]
    assert main([str(folder), *given, "--output", str(tmp_path / "out")]) == 1
    assert line in capsys.readouterr().err


def test_packed_label_maps_are_small_and_the_same_each_time(tmp_path):
    codes = phantom_codes()
    first, second = (write_packed(codes, np.eye(4), tmp_path / name) for name in ("a.nii.gz", "b.nii.gz"))
    assert first.read_bytes() == second.read_bytes()
    assert np.array_equal(np.asarray(nib.load(first).dataobj), codes)
    small = write_packed(np.minimum(codes, 255), np.eye(4), tmp_path / "c.nii.gz")
    assert nib.load(small).get_data_dtype() == np.uint8
    with pytest.raises(ExistsError):
        write_packed(codes, np.eye(4), first)
    with pytest.raises(OptionError, match="found codes from -1"):
        write_packed(codes - 1, np.eye(4), tmp_path / "d.nii.gz")
    with pytest.raises(OptionError, match="another extension"):
        write_packed(codes, np.eye(4), tmp_path / "d.nii")
