"""The six test geometries are six different headers of one anatomy."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from tests.geometries import STALE_PIXDIM, make_geometries

AFFINE = np.array([[1.1, 0, 0, -10], [0, 0.9, 0, -14], [0, 0, 1.2, -5], [0, 0, 0, 1]])
CENTRE = np.array([11.0, 14, 11])


def blob() -> np.ndarray:
    grid = np.stack(np.indices((24, 28, 24)), axis=-1)
    return np.exp(-(((grid - CENTRE) / [3, 4, 3]) ** 2).sum(-1)).astype(np.float32)


def test_anatomy_stays_at_its_world_position(tmp_path):
    wanted = (AFFINE @ [*CENTRE, 1])[:3]
    for name, path in make_geometries(tmp_path, blob(), AFFINE).items():
        image = nib.load(path)
        data = image.get_fdata()
        voxel = (np.indices(data.shape) * data).reshape(3, -1).sum(1) / data.sum()
        np.testing.assert_allclose((image.affine @ [*voxel, 1])[:3], wanted, atol=0.01, err_msg=name)


def test_headers_are_what_their_names_say(tmp_path):
    images = {name: nib.load(path) for name, path in make_geometries(tmp_path, blob(), AFFINE).items()}
    axes = {name: "".join(nib.aff2axcodes(image.affine)) for name, image in images.items()}
    assert axes == {
        "ras": "RAS",
        "lps": "LPS",
        "oblique": "RAS",
        "left_handed": "ASL",
        "anisotropic": "RAS",
        "stale_pixdim": "RAS",
    }
    codes = {(int(image.header["sform_code"]), int(image.header["qform_code"])) for image in images.values()}
    assert len(codes) == 6
    assert nib.affines.obliquity(images["oblique"].affine).min() > np.radians(14)
    assert np.linalg.det(images["left_handed"].affine) < 0
    assert images["anisotropic"].header.get_zooms() == pytest.approx((1.1, 0.9, 3.6))
    assert images["anisotropic"].header.get_xyzt_units() == ("unknown", "unknown")
    stale = images["stale_pixdim"]
    assert np.array(stale.header.get_zooms()) / nib.affines.voxel_sizes(stale.affine) == pytest.approx(
        [STALE_PIXDIM] * 3
    )


def test_nearest_neighbour_keeps_type_and_values_of_labels(tmp_path):
    labels = np.random.default_rng().choice([0, 17, 53], (9, 10, 12)).astype(np.int16)
    for name, path in make_geometries(tmp_path, labels, AFFINE, order=0).items():
        image = nib.load(path)
        assert image.get_data_dtype() == np.int16, name
        assert set(np.unique(np.asarray(image.dataobj))) == {0, 17, 53}, name
