"""Label maps on disk: the source's geometry to the byte, nothing half-written, equal bytes for equal answers."""

from __future__ import annotations

import gzip
import resource
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.errors import InputError
from bundle.io import output_path, read_volume, write_label_map
from tests.geometries import make_geometries, patch_header

AFFINE = np.array([[1.1, 0, 0.01, -10], [0, 0.9, 0, -14], [0, 0.02, 1.2, -5], [0, 0, 0, 1]])
SHAPE = (9, 10, 11)
GEOMETRIES = ["ras", "lps", "oblique", "left_handed", "anisotropic", "stale_pixdim"]
FIELD_BYTES = {
    "dim": slice(40, 56),
    "pixdim": slice(76, 108),
    "xyzt_units": slice(123, 124),
    "qform_code, sform_code, quaternion, offset, srow": slice(252, 328),
}
"""Bytes of the geometry fields in a NIfTI-1 header, from the standard's nifti1.h."""


def random_labels(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng().integers(0, 61, shape).astype(np.int16)


def save_scan(path: Path, shape=SHAPE, image_class=nib.Nifti1Image, endianness="<") -> Path:
    data = np.random.default_rng().random(shape).astype(np.float32)
    image = image_class(data, AFFINE, image_class.header_class(endianness=endianness))
    image.header.set_xyzt_units("mm", "msec")
    image.header["descrip"], image.header["aux_file"] = b"Jane Doe 1970", b"jane.txt"
    image.header["cal_max"], image.header["intent_name"] = 5, b"doe"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def stored_bytes(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometry_fields_are_the_sources_bytes(tmp_path, name):
    data = np.random.default_rng().random((9, 10, 12)).astype(np.float32)
    source = make_geometries(tmp_path, data, AFFINE)[name]
    labels = random_labels(nib.load(source).shape)
    path = write_label_map(labels, source, tmp_path / "out" / f"{name}_seg.nii.gz")
    for field, place in FIELD_BYTES.items():
        assert stored_bytes(path)[place] == stored_bytes(source)[place], field
    image = nib.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), labels)
    np.testing.assert_array_equal(image.affine, nib.load(source).affine)
    assert image.get_data_dtype() == np.int16


@pytest.mark.parametrize("qfac", [0, 3])
def test_odd_header_values_are_copied_as_they_are(tmp_path, qfac):
    pixdim = [qfac, 1.11, 0.9, 1.2, np.nan, -1, 0, 7]
    source = patch_header(save_scan(tmp_path / "scan.nii.gz"), pixdim=pixdim, dim=[3, *SHAPE, 0, 0, 5, 0])
    path = write_label_map(random_labels(), source, tmp_path / "seg.nii.gz")
    for field, place in FIELD_BYTES.items():
        assert stored_bytes(path)[place] == stored_bytes(source)[place], field


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
def test_version_and_byte_order_are_the_sources(tmp_path, image_class, endianness, suffix):
    source = save_scan(tmp_path / "scan.nii", image_class=image_class, endianness=endianness)
    labels = random_labels()
    image = nib.load(write_label_map(labels, source, tmp_path / f"seg{suffix}"))
    assert type(image) is image_class
    assert image.header.endianness == endianness
    np.testing.assert_array_equal(np.asarray(image.dataobj), labels)
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim", "sform_code", "qform_code", "dim"):
        assert image.header[field].tobytes() == nib.load(source).header[field].tobytes(), field


def test_header_says_what_it_is_and_nothing_about_the_patient(tmp_path):
    source = save_scan(tmp_path / "scan.nii.gz")
    path = write_label_map(random_labels(), source, tmp_path / "seg.nii.gz")
    header = nib.load(path).header
    assert header.get_intent() == ("label", (), "")
    assert header["intent_code"] == 1002
    assert header["descrip"] == b"segmentation"
    assert stored_bytes(path)[112:120] == np.array([1, 0], "<f4").tobytes()
    assert (header["cal_min"], header["cal_max"]) == (0, 0)
    assert header.get_xyzt_units() == ("mm", "msec")
    assert len(header.extensions) == 0
    assert len(stored_bytes(path)) == 352 + 2 * np.prod(SHAPE)
    assert b"doe" not in stored_bytes(path)[:352].lower()
    assert b"jane" not in stored_bytes(path)[:352].lower()


@pytest.mark.parametrize("shape", [(*SHAPE, 1), (*SHAPE, 1, 1)])
@pytest.mark.parametrize("as_3d", [True, False])
def test_trailing_axes_of_the_source_are_kept(tmp_path, shape, as_3d):
    source = save_scan(tmp_path / "scan.nii.gz", shape)
    labels = random_labels()
    path = write_label_map(labels if as_3d else labels.reshape(shape), source, tmp_path / "seg.nii.gz")
    assert nib.load(path).shape == shape
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj).reshape(SHAPE), labels)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint64, np.float32, bool, "tensor", "fortran", "list"])
def test_whole_numbers_of_any_type_and_layout_are_stored(tmp_path, kind):
    source = save_scan(tmp_path / "scan.nii.gz")
    labels = random_labels() % 2 if kind is bool else random_labels()
    convert = {"tensor": torch.from_numpy, "fortran": np.asfortranarray, "list": np.ndarray.tolist}
    given = convert[kind](labels) if isinstance(kind, str) else labels.astype(kind)
    path = write_label_map(given, source, tmp_path / "seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), labels)


def test_int16_limits_are_stored(tmp_path):
    labels = random_labels().astype(np.int64)
    labels.flat[:2] = -32768, 32767
    path = write_label_map(labels, save_scan(tmp_path / "scan.nii.gz"), tmp_path / "seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), labels)


def test_same_answer_twice_gives_the_same_bytes_under_any_name(tmp_path):
    source, labels = save_scan(tmp_path / "scan.nii.gz"), random_labels()
    first = write_label_map(labels, source, tmp_path / "a" / "first_seg.nii.gz")
    second = write_label_map(labels.astype(np.float64), source, tmp_path / "b" / "second_seg.nii.gz")
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[4:8] == bytes(4)
    before = first.read_bytes()
    assert write_label_map(labels, source, first, overwrite=True).read_bytes() == before


def bad_value(value: float) -> np.ndarray:
    labels = random_labels().astype(np.float64)
    labels.flat[5] = value
    return labels


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.zeros((9, 10, 12)), r"found shape \(9, 10, 12\); \(9, 10, 11\) of .*scan.nii.gz is wanted"),
        (np.zeros((1, *SHAPE)), "found shape"),
        (np.zeros((*SHAPE, 1)), "found shape"),
        (np.zeros((11, 10, 9)), "found shape"),
        (np.zeros(990), "found shape"),
        (bad_value(32768), "found .* to 32768.0; -32768 to 32767 is wanted"),
        (bad_value(-32769), "found -32769.0 to "),
        (bad_value(2**40).astype(np.int64), "found .* to 1099511627776"),
        (bad_value(0.5), "found fractions or NaN"),
        (bad_value(np.nan), "found fractions or NaN"),
        (bad_value(np.inf), "found .* to inf"),
        (np.zeros(SHAPE, complex), "found type complex128"),
        (np.full(SHAPE, "a"), "found type <U1"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, labels, reason):
    source = save_scan(tmp_path / "in" / "scan.nii.gz")
    with pytest.raises(ValueError, match=f"^labels: {reason}"):
        write_label_map(labels, source, tmp_path / "out" / "seg.nii.gz")
    assert not (tmp_path / "out").exists()


def test_existing_file_is_kept_unless_overwrite(tmp_path):
    source, path = save_scan(tmp_path / "scan.nii.gz"), tmp_path / "seg.nii.gz"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=f"^{path}: exists already; [^\n]*wanted$"):
        write_label_map(random_labels(), source, path)
    assert path.read_text() == "precious"
    labels = random_labels()
    write_label_map(labels, source, path, overwrite=True)
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), labels)
    assert sorted(tmp_path.iterdir()) == [source, path]


def test_scan_itself_is_never_replaced(tmp_path):
    source = save_scan(tmp_path / "scan.nii.gz")
    before = source.read_bytes()
    with pytest.raises(ValueError, match="is the scan itself"):
        write_label_map(random_labels(), source, source, overwrite=True)
    assert source.read_bytes() == before


@pytest.mark.parametrize("name", ["seg.mgz", "seg", "seg.nii.bz2"])
def test_other_output_formats_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name}: found another extension"):
        write_label_map(random_labels(), save_scan(tmp_path / "in" / "scan.nii"), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("name", ["missing.nii.gz", "text.nii.gz"])
def test_source_that_is_no_scan_is_an_input_error(tmp_path, name):
    (tmp_path / "text.nii.gz").write_text("no scan")
    with pytest.raises(InputError, match=name):
        write_label_map(random_labels(), tmp_path / name, tmp_path / "out" / "seg.nii.gz")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("before", [None, b"earlier answer"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_write_that_fails_halfway_leaves_nothing_behind(tmp_path, suffix, before):
    source, path = save_scan(tmp_path / "in" / "scan.nii"), tmp_path / "out" / f"seg{suffix}"
    path.parent.mkdir()
    if before:
        path.write_bytes(before)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_label_map(random_labels(), source, path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [entry.read_bytes() for entry in path.parent.iterdir()] == ([before] if before else [])


def test_target_that_is_a_folder_leaves_nothing_behind(tmp_path):
    source, path = save_scan(tmp_path / "in" / "scan.nii"), tmp_path / "out" / "seg.nii.gz"
    path.mkdir(parents=True)
    with pytest.raises(OSError, match=r"seg\.nii\.gz"):
        write_label_map(random_labels(), source, path, overwrite=True)
    assert list(path.parent.iterdir()) == [path]


def test_file_mode_follows_the_umask(tmp_path):
    source = save_scan(tmp_path / "scan.nii.gz")
    (tmp_path / "plain").touch()
    path = write_label_map(random_labels(), source, tmp_path / "seg.nii.gz")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_label_map_reads_back_as_a_volume_with_the_scans_affine(tmp_path):
    source, labels = save_scan(tmp_path / "scan.nii.gz"), random_labels()
    volume = read_volume(write_label_map(labels, source, tmp_path / "seg.nii.gz"))
    np.testing.assert_array_equal(volume.data, labels)
    np.testing.assert_array_equal(volume.affine, read_volume(source).affine)


@pytest.mark.parametrize(
    ("source", "postfix", "wanted"),
    [
        ("data/scan.nii.gz", "seg", "out/scan/scan_seg.nii.gz"),
        ("scan.nii", "seg", "out/scan/scan_seg.nii.gz"),
        ("SCAN.NII.GZ", "seg", "out/SCAN/SCAN_seg.nii.gz"),
        ("sub-01.ses-2_T1w.nii.gz", "seg", "out/sub-01.ses-2_T1w/sub-01.ses-2_T1w_seg.nii.gz"),
        ("scan.nii.nii.gz", "seg", "out/scan.nii/scan.nii_seg.nii.gz"),
        ("scan.nii.gz", "", "out/scan/scan.nii.gz"),
        ("scan.nii.gz", "volumes", "out/scan/scan_volumes.nii.gz"),
    ],
)
def test_output_path(source, postfix, wanted):
    assert output_path(source, "out", postfix) == Path(wanted)
