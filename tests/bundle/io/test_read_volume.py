"""Scans that are read, and files that are refused in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bundle.errors import InputError
from bundle.io import read_volume
from tests.geometries import patch_header

AFFINE = np.array([[0, 0, -1.2, 40], [-0.9, 0, 0, 30], [0, 1.1, 0, -50], [0, 0, 0, 1]])
SHAPE = (9, 10, 11)


def random_data(dtype=np.float32, shape=SHAPE) -> np.ndarray:
    return (np.random.default_rng().random(shape) * 200).astype(dtype)


def save(path: Path, data: np.ndarray, image_class=nib.Nifti1Image) -> Path:
    image = image_class(data, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_real_type_reads_as_nibabel_reads_it(tmp_path, dtype, suffix, image_class):
    path = save(tmp_path / f"scan{suffix}", random_data(dtype), image_class)
    volume, reference = read_volume(path), nib.load(path)
    assert volume.data.dtype == np.float32
    assert volume.affine.dtype == np.float64
    assert volume.path == path
    np.testing.assert_array_equal(volume.data, reference.get_fdata().astype(np.float32))
    np.testing.assert_array_equal(volume.affine, reference.affine)
    assert type(volume.header).sizeof_hdr == image_class.header_class.sizeof_hdr


@pytest.mark.parametrize("endianness", ["<", ">"])
def test_both_byte_orders_read_the_same(tmp_path, endianness):
    data = random_data(np.int16)
    image = nib.Nifti1Image(data, AFFINE, nib.Nifti1Header(endianness=endianness))
    nib.save(image, tmp_path / "scan.nii.gz")
    volume = read_volume(tmp_path / "scan.nii.gz")
    assert volume.header.endianness == endianness
    np.testing.assert_array_equal(volume.data, data)


@pytest.mark.parametrize(("slope", "inter"), [(0.25, -1024.0), (3.0, 0.0), (1.0, 7.5), (0.0, 5.0), (np.nan, 1.0)])
def test_scaling_is_applied_when_the_slope_is_usable(tmp_path, slope, inter):
    data = random_data(np.int16)
    path = patch_header(save(tmp_path / "scan.nii", data), scl_slope=slope, scl_inter=inter)
    wanted = data * slope + inter if np.isfinite(slope) and slope else data
    np.testing.assert_allclose(read_volume(path).data, wanted, rtol=1e-6)


def test_wide_integers_keep_their_contrast_under_a_large_intercept(tmp_path):
    data = (2**30 + np.arange(np.prod(SHAPE)).reshape(SHAPE)).astype(np.int32)
    path = patch_header(save(tmp_path / "scan.nii", data), scl_slope=1, scl_inter=-(2.0**30))
    np.testing.assert_array_equal(read_volume(path).data, data - 2**30)


@pytest.mark.parametrize("extra", [(1,), (1, 1)])
def test_trailing_axes_of_one_are_3d_and_stay_in_the_header(tmp_path, extra):
    data = random_data(np.int16, SHAPE + extra)
    volume = read_volume(save(tmp_path / "scan.nii.gz", data))
    np.testing.assert_array_equal(volume.data, data.reshape(SHAPE))
    assert volume.header.get_data_shape() == SHAPE + extra


def test_voxel_offset_of_zero_means_after_the_header(tmp_path):
    data = random_data(np.int16)
    path = patch_header(save(tmp_path / "scan.nii", data), vox_offset=0)
    np.testing.assert_array_equal(read_volume(path).data, data)


def test_extensions_are_skipped(tmp_path):
    image = nib.Nifti1Image(random_data(np.int16), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 100))
    nib.save(image, tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii.gz").data, np.asarray(image.dataobj))


def missing(path: Path) -> None:
    pass


def a_folder(path: Path) -> None:
    path.mkdir()


def dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere.nii.gz"))


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("patient,scan\n" * 100)


def short_text(path: Path) -> None:
    path.write_text("hello")


def zipped_text(path: Path) -> None:
    path.write_bytes(gzip.compress(b"patient,scan\n" * 100))


def zeros(path: Path) -> None:
    path.write_bytes(bytes(4000))


def cut_to(share: float):
    def make(path: Path) -> None:
        content = save(path, random_data()).read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return make


def without_checksum(path: Path) -> None:
    path.write_bytes(save(path, random_data()).read_bytes()[:-4])


def wrong_checksum(path: Path) -> None:
    content = bytearray(save(path, random_data()).read_bytes())
    content[-8] ^= 0xFF
    path.write_bytes(content)


def flipped_byte(path: Path) -> None:
    content = bytearray(save(path, random_data()).read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def short_inside_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(save(path, random_data()).read_bytes())[:-100]))


def analyze_header(path: Path) -> None:
    patch_header(save(path, random_data()), magic=b"")


def detached_header(path: Path) -> None:
    patch_header(save(path, random_data()), magic=b"ni1")


def shaped(*shape: int):
    def make(path: Path) -> None:
        save(path, random_data(np.int16, shape))

    return make


def typed(dtype):
    def make(path: Path) -> None:
        save(path, random_data(np.uint8).astype(dtype) if dtype != "RGB" else rgb())

    return make


def rgb() -> np.ndarray:
    return np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


def header_with(**fields):
    def make(path: Path) -> None:
        patch_header(save(path, random_data(np.int16)), **fields)

    return make


def values(*special: float, dtype=np.float32):
    def make(path: Path) -> None:
        data = random_data(dtype)
        data.flat[: len(special)] = special
        save(path, data)

    return make


def constant(path: Path) -> None:
    save(path, np.full(SHAPE, 7, np.int16))


BAD_FILES = [
    ("scan.nii.gz", missing, "no such file"),
    ("scan.nii.gz", dangling_link, "no such file"),
    ("scan.nii.gz", a_folder, "found a folder"),
    ("scan.nii.gz", empty, "found an empty file"),
    ("scan.nii", empty, "found an empty file"),
    ("scan.nii.gz", text, "found text"),
    ("scan.nii", text, "found text"),
    ("scan.nii", short_text, "found text"),
    ("scan.nii", zeros, "found no NIfTI header"),
    ("scan.nii.gz", zipped_text, "found text inside gzip data"),
    ("scan.nii.gz", cut_to(0.001), "truncated gzip data"),
    ("scan.nii.gz", cut_to(0.5), "truncated gzip data"),
    ("scan.nii.gz", without_checksum, "truncated gzip data"),
    ("scan.nii.gz", wrong_checksum, "damaged or truncated gzip data"),
    ("scan.nii.gz", flipped_byte, "damaged or truncated gzip data"),
    ("scan.nii.gz", short_inside_gzip, "found 3860 of 3960 voxel bytes"),
    ("scan.nii", cut_to(0.01), "found no NIfTI header"),
    ("scan.nii", cut_to(0.5), "of 3960 voxel bytes"),
    ("scan.nii.gz", header_with(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]), "of 54000000000000 voxel bytes"),
    ("scan.nii", header_with(vox_offset=np.nan), "found voxels at byte nan"),
    ("scan.nii", analyze_header, "found an Analyze header"),
    ("scan.nii.gz", detached_header, "found a detached header"),
    ("scan.hdr", text, "found no scan.img beside it"),
    ("scan.img", text, "found no scan.hdr beside it"),
    ("scan.mgz", text, "a NIfTI file, .nii or .nii.gz, is wanted"),
    ("scan", text, "found text"),
    ("scan", zeros, "found a file without an extension"),
    ("scan.dat", zeros, "found a file named .dat"),
    ("scan.nii.gz", shaped(9, 10), "found shape (9, 10); a single 3D volume is wanted"),
    ("scan.nii.gz", shaped(9, 10, 1), "found shape (9, 10, 1); a single 3D volume is wanted"),
    ("scan.nii.gz", shaped(9, 1, 10), "found shape (9, 1, 10); a single 3D volume is wanted"),
    (
        "scan.nii.gz",
        shaped(5, 6, 7, 2),
        "found shape (5, 6, 7, 2); a single 3D volume, or --frame N with N from 0 to 1, is wanted",
    ),
    (
        "scan.nii.gz",
        shaped(5, 6, 7, 1, 3),
        "found shape (5, 6, 7, 1, 3); a single 3D volume, or --frame N with N from 0 to 2, is wanted",
    ),
    ("scan.nii", header_with(dim=[0, 9, 10, 11, 1, 1, 1, 1]), "a single 3D volume is wanted"),
    ("scan.nii", header_with(dim=[3, 9, -10, 11, 1, 1, 1, 1]), "found shape (9, -10, 11)"),
    ("scan.nii", header_with(dim=[99, 9, 10, 11, 1, 1, 1, 1]), "a single 3D volume is wanted"),
    ("scan.nii.gz", typed("RGB"), "found voxels of type RGB"),
    ("scan.nii.gz", typed(np.complex64), "found voxels of type complex64"),
    ("scan.nii", header_with(datatype=0), "real numbers are wanted"),
    ("scan.nii", header_with(datatype=999), "real numbers are wanted"),
    ("scan.nii", header_with(scl_slope=1, scl_inter=np.inf), "found unusable scaling"),
    ("scan.nii.gz", values(np.nan, np.nan), "found 2 voxels that are NaN or Inf"),
    ("scan.nii.gz", values(np.inf, -np.inf, np.nan), "found 3 voxels that are NaN or Inf"),
    ("scan.nii.gz", values(1e300, dtype=np.float64), "found 1 voxels beyond 1e+37"),
    ("scan.nii.gz", constant, "found the value 7 in every voxel"),
]


@pytest.mark.parametrize(
    ("name", "make", "reason"), BAD_FILES, ids=[f"{i}-{reason[:40]}" for i, (_, _, reason) in enumerate(BAD_FILES)]
)
@pytest.mark.filterwarnings("error")
def test_bad_file_is_refused_in_one_line_that_names_it(tmp_path, name, make, reason):
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert reason in message
    assert message.startswith(f"{path}: ")
    assert "; " in message
    assert message.endswith(" wanted")
    assert "\n" not in message
