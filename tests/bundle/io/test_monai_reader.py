"""The reader inside MONAI's LoadImaged, and the affine and errors that come out of it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, list_data_collate
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged, Orientationd, Spacingd

from bundle.errors import InputError, root_cause
from bundle.io import NiftiReader
from tests.geometries import make_geometries

AFFINE = np.array([[1.1, 0, 0, -10], [0, 0.9, 0, -14], [0, 0, 1.2, -5], [0, 0, 0, 1]])
GEOMETRIES = ["ras", "lps", "oblique", "left_handed", "anisotropic", "stale_pixdim"]
quiet = pytest.mark.filterwarnings("ignore:.*found pixdim:UserWarning", "ignore:.*TorchScript.*")


def blob() -> tuple[np.ndarray, np.ndarray]:
    """Return a smooth blob inside a (24, 28, 24) volume and its centre in voxels."""
    centre = np.array([11.0, 14, 11]) + np.random.default_rng().uniform(-1, 1, 3)
    grid = np.stack(np.indices((24, 28, 24)), axis=-1)
    return np.exp(-(((grid - centre) / [3, 4, 3]) ** 2).sum(-1)).astype(np.float32), centre


def centre_of_mass(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the centre of mass in mm."""
    voxel = (np.indices(data.shape) * data).reshape(3, -1).sum(1) / data.sum()
    return affine[:3, :3] @ voxel + affine[:3, 3]


def save(path: Path, data: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, AFFINE), path)
    return path


def configured_transforms(*later: dict) -> Compose:
    """Build the transforms as a bundle's config does."""
    load = {"_target_": "LoadImaged", "keys": "image", "reader": "@reader"}
    parser = ConfigParser(
        {
            "reader": {"_target_": "bundle.io.NiftiReader"},
            "preprocessing": {"_target_": "Compose", "transforms": [load, *later]},
        }
    )
    return parser.get_parsed_content("preprocessing")


@quiet
@pytest.mark.parametrize("name", GEOMETRIES)
def test_affine_keeps_double_precision_and_metadata_is_complete(tmp_path, name):
    path = make_geometries(tmp_path, blob()[0], AFFINE)[name]
    image = configured_transforms()({"image": str(path)})["image"]
    header = nib.load(path).header
    stored = header.get_qform() if name == "oblique" else header.get_sform()
    assert image.affine.dtype == torch.float64
    np.testing.assert_array_equal(image.affine.numpy(), stored)
    np.testing.assert_array_equal(image.meta["original_affine"], stored)
    assert image.meta["original_affine"].dtype == np.float64
    assert tuple(image.meta["spatial_shape"]) == tuple(image.shape) == header.get_data_shape()
    assert image.meta["space"] == "RAS"
    assert np.isnan(image.meta["original_channel_dim"])
    assert image.meta["filename_or_obj"] == str(path)
    np.testing.assert_array_equal(image.numpy(), np.asarray(nib.load(path).dataobj))


@quiet
@pytest.mark.parametrize("name", GEOMETRIES)
def test_oriented_and_resampled_anatomy_stays_where_it_was(tmp_path, name):
    data, centre = blob()
    wanted = AFFINE[:3, :3] @ centre + AFFINE[:3, 3]
    transforms = Compose(
        [
            LoadImaged(keys="image", reader=NiftiReader()),
            EnsureChannelFirstd(keys="image"),
            Orientationd(keys="image", axcodes="RAS"),
            Spacingd(keys="image", pixdim=(1.0, 1.0, 1.0)),
        ]
    )
    image = transforms({"image": make_geometries(tmp_path, data, AFFINE)[name]})["image"]
    assert image.shape[0] == 1
    assert nib.aff2axcodes(image.affine.numpy()) == ("R", "A", "S")
    np.testing.assert_allclose(np.linalg.norm(image.affine.numpy()[:3, :3], axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(centre_of_mass(image[0].numpy(), image.affine.numpy()), wanted, atol=0.1)


@quiet
def test_scans_of_one_shape_collate(tmp_path):
    paths = make_geometries(tmp_path, blob()[0], AFFINE)
    items = [{"image": str(paths[name])} for name in ("ras", "lps", "stale_pixdim")]
    transforms = configured_transforms({"_target_": "EnsureChannelFirstd", "keys": "image"})
    loader = DataLoader(Dataset(items, transforms), batch_size=3, collate_fn=list_data_collate)
    batch = next(iter(loader))["image"]
    assert batch.shape == (3, 1, 24, 28, 24)
    assert batch.affine.dtype == torch.float64
    for affine, item in zip(batch.affine, items, strict=True):
        np.testing.assert_array_equal(affine.numpy(), nib.load(item["image"]).header.get_sform())
    assert batch.meta["filename_or_obj"] == [item["image"] for item in items]


@pytest.mark.parametrize(
    "reader", [NiftiReader(), NiftiReader, "bundle.io.NiftiReader"], ids=["object", "class", "name"]
)
def test_refused_file_is_not_read_by_another_reader(tmp_path, reader):
    image = nib.Nifti1Image(np.random.default_rng().random((5, 6, 7, 2)), AFFINE)
    nib.save(image, tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match=r"^[^\n]*scan.nii.gz: found shape \(5, 6, 7, 2\); [^\n]*$"):
        LoadImaged(keys="image", reader=reader)({"image": str(tmp_path / "scan.nii.gz")})


def test_missing_file_is_an_input_error_too(tmp_path):
    with pytest.raises(InputError, match=r"^[^\n]*scan.nii: no such file; [^\n]*$"):
        LoadImage(reader=NiftiReader())(tmp_path / "scan.nii")


def test_input_error_is_found_in_what_compose_raises(tmp_path):
    path = tmp_path / "scan.nii.gz"
    path.write_text("no scan")
    with pytest.raises(RuntimeError) as caught:
        configured_transforms()({"image": str(path)})
    error = root_cause(caught.value)
    assert isinstance(error, InputError)
    assert str(error).startswith(f"{path}: found text; a NIfTI file")


def test_message_reaches_the_caller_from_a_worker_process(tmp_path):
    dataset = Dataset([{"image": str(tmp_path / "scan.nii.gz")}], configured_transforms())
    batches = iter(DataLoader(dataset, num_workers=1))
    with pytest.raises(RuntimeError, match=r"scan\.nii\.gz: no such file; an existing file is wanted"):
        next(batches)
    batches._shutdown_workers()  # left to the garbage collector, it waits for 5 seconds


def test_several_files_for_one_image_are_refused(tmp_path):
    data = blob()[0]
    paths = [save(tmp_path / "a.nii", data), save(tmp_path / "b.nii", data)]
    with pytest.raises(InputError, match="found 2 files for one image"):
        LoadImage(reader=NiftiReader())(paths)


def test_assume_affine_is_passed_on(tmp_path):
    data = blob()[0]
    image = nib.Nifti1Image(data, None)
    nib.save(image, tmp_path / "scan.nii")
    with pytest.raises(InputError, match="found neither an sform nor a qform"):
        LoadImage(reader=NiftiReader())(tmp_path / "scan.nii")
    loaded = LoadImage(reader=NiftiReader(assume_affine=True))(tmp_path / "scan.nii")
    np.testing.assert_array_equal(loaded.numpy(), data)
    np.testing.assert_array_equal(np.diag(loaded.affine), [-1, 1, 1, 1])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("a.nii", True), ("a.NII.gz", True), (Path("a.nii.gz"), True), ("a.mgz", True), (["a.nii", "b.png"], False)],
)
def test_verify_suffix(name, wanted):
    assert NiftiReader().verify_suffix(name) is wanted
