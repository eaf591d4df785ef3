"""Training label maps as files: turned to RAS, and refused in one line when they are none."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.errors import InputError, MissingError
from bundle.labels import read_labels
from bundle.synthesis.anatomy import load_label_maps

TABLE = read_labels()
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


def some_codes() -> np.ndarray:
    codes = np.zeros((12, 14, 10), dtype=np.int16)
    codes[3:6, 3:8, 2:7], codes[6:10, 3:8, 2:7], codes[4:7, 5:12, 3:9] = 2, 41, 17
    return codes


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


def refusal(*paths: Path) -> str:
    """Return the line that refuses the label maps; it names the last one."""
    with pytest.raises(InputError) as caught:
        load_label_maps(paths, TABLE)
    assert str(caught.value).startswith(f"{paths[-1]}: found ")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_label_map_in_any_order_of_axes_is_the_one_in_ras(tmp_path, axcodes, dtype):
    codes = some_codes()
    turn = nib.orientations.axcodes2ornt(axcodes)
    change = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), turn)
    affine = AFFINE @ nib.orientations.inv_ornt_aff(change, codes.shape)
    turned = write(tmp_path / "a.nii.gz", nib.orientations.apply_orientation(codes, change).astype(dtype), affine)
    (found, expected), table = load_label_maps([turned, write(tmp_path / "b.nii.gz", codes)], TABLE)
    assert table.codes == (0, 2, 17, 41)
    for name in ("classes", "spacing", "brain_centre", "centres"):
        tensor = getattr(expected, name)
        assert torch.equal(getattr(found, name), tensor), name
    assert expected.spacing.tolist() == [1.0, 1.5, 2.0]
    assert (expected.classes == 2).sum() == (codes == 17).sum()


def spoil(name: str, path: Path) -> None:
    codes = some_codes()
    if name == "fractions":
        write(path, codes.astype(np.float32) + 0.25)
    elif name == "nan":
        write(path, np.where(codes == 17, np.nan, codes).astype(np.float32))
    elif name == "scaled":
        image = nib.Nifti1Image(codes, AFFINE)
        image.header.set_slope_inter(0.5, 0)
        image.to_filename(path)
    elif name == "4d":
        write(path, np.stack([codes, codes], -1))
    elif name == "truncated":
        content = gzip.decompress(write(path, codes).read_bytes())
        path.write_bytes(gzip.compress(content[:-500]))
    elif name == "cut off":
        write(path, codes)
        path.write_bytes(path.read_bytes()[:-40])
    elif name == "negative":
        write(path, np.where(codes == 17, -1, codes).astype(np.int16))
    elif name == "large":
        write(path, np.where(codes == 17, np.int32(40000), codes))
    elif name == "image":
        write(path, np.arange(codes.size, dtype=np.int16).reshape(codes.shape))
    elif name == "empty":
        write(path, np.zeros_like(codes))
    elif name == "head only":
        write(path, np.where(codes > 0, 511, 0).astype(np.int16))
    elif name == "no place":
        image = nib.Nifti1Image(codes, None)
        image.header.set_sform(None, 0)
        image.header.set_qform(None, 0)
        image.to_filename(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fractions", "found fractions, NaN or Inf"),
        ("nan", "found fractions, NaN or Inf"),
        ("scaled", "found fractions, NaN or Inf"),
        ("4d", "(12, 14, 10, 2)"),
        ("truncated", "a complete NIfTI file is wanted"),
        ("cut off", "a complete NIfTI file is wanted"),
        ("negative", "found codes from -1 to 41; 0 to 32767 are wanted"),
        ("large", "found codes from 0 to 40000; 0 to 32767 are wanted"),
        ("image", "found 1680 codes"),
        ("empty", "found no labelled voxel"),
        ("head only", "found head tissues only"),
        ("no place", "found neither an sform nor a qform"),
    ],
)
def test_file_that_is_no_label_map_is_one_line_with_its_name(tmp_path, name, words):
    good, bad = write(tmp_path / "good.nii.gz", some_codes()), tmp_path / "bad.nii.gz"
    spoil(name, bad)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert words in refusal(good, bad)


def test_codes_of_all_files_together_are_at_most_255_and_the_background(tmp_path):
    paths = []
    for start in (1, 129):
        codes = some_codes()
        codes.flat[:128] = np.arange(start, start + 128)
        paths.append(write(tmp_path / f"{start}.nii.gz", codes))
    assert refusal(*paths).endswith(
        "found 132 codes, 257 with those of the files before it; at most 255 and the background are wanted"
    )
    codes.flat[:128] = np.arange(129, 257)
    codes[codes == 256] = 2
    write(paths[1], codes)
    maps, table = load_label_maps(paths, TABLE)
    assert len(table.codes) == 256
    assert max(int(label_map.classes.max()) for label_map in maps) == 255


@pytest.mark.parametrize("codes", [[1, 2], [1, 2, 3, 4], list(range(1, 19))])
def test_label_maps_of_another_numbering_train_no_brains(tmp_path, codes):
    data = np.zeros((12, 14, 10), dtype=np.int16)
    for place, code in enumerate(codes):
        data.flat[40 * place : 40 * place + 20] = code
    line = refusal(write(tmp_path / "a.nii.gz", data))
    assert "both sides of no structure; label maps of brains in the codes of label_table are wanted" in line


def test_missing_file_and_no_file_are_named(tmp_path):
    with pytest.raises(MissingError, match=r"none\.nii\.gz"):
        load_label_maps([tmp_path / "none.nii.gz"], TABLE)
    with pytest.raises(MissingError, match="no label map found"):
        load_label_maps([], TABLE)
