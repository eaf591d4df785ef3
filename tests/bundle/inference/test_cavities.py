"""A cavity full of fluid, larger than a ventricle, costs the ventricles nothing, and is none of them or flagged.

``python -m benchmarks.cavities`` draws many more; ``test_components.py`` holds which of several pieces stays.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.cavities import BAR, Cavity, lowest_dice, segmented, ventricle_codes
from bundle.inference.segmenter import Segmenter
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
HEAD = 0.03
"""Of the sample's brightest voxel: what is darker lies outside the head."""
LEFT = Cavity((-38.0, 6.0, 48.0), radius=25, edge=0, filling=0.12)
RIGHT = Cavity((38.0, 6.0, 48.0), radius=25, edge=2, filling=0.12)
TEMPORAL = Cavity((53.0, -2.0, -20.0), radius=25, edge=2, filling=0.2)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return Segmenter(
        ROOT / "configs/inference.json", output_dir=str(tmp_path_factory.mktemp("cavities")), bundle_root=str(ROOT),
        precision="float32", device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def sound(segmenter, sample):
    """The label map without a cavity, which is not flagged."""
    ((codes, flags),) = segmented(segmenter, Path(sample), ["likely"])
    assert flags == []
    return codes


@pytest.fixture(scope="module")
def with_cavity(segmenter, sample, tmp_path_factory):
    """Return label map and flags under some rules, and the voxels outside a cavity."""
    path, scan = tmp_path_factory.mktemp("cavity") / "scan.nii", nib.load(sample)
    image = scan.get_fdata(dtype=np.float32)

    def run(cavity, *rules):
        filled = nib.Nifti1Image(cavity.fill(image, scan.affine, HEAD), scan.affine)
        filled.header.set_xyzt_units("mm")
        filled.to_filename(path)
        return list(segmented(segmenter, path, rules)), cavity.outside(image.shape, scan.affine)

    return run


@pytest.mark.parametrize("cavity", [LEFT, RIGHT, TEMPORAL], ids=["left", "right", "temporal"])
def test_ventricles_outside_a_cavity_stay_and_it_is_none_or_flagged(with_cavity, sound, cavity):
    ((codes, flags),), outside = with_cavity(cavity, "likely")
    ventricles = ventricle_codes()
    assert lowest_dice(codes[outside], sound[outside], ventricles, 1.0) >= BAR
    taken = (np.isin(codes, ventricles) & ~outside).sum() / (~outside).sum()
    assert taken < 0.02 or "pieces" in flags


def test_cavity_of_code_is_a_ball_with_the_edge_and_filling_asked_for():
    affine = nib.affines.from_matvec(np.diag([2.0, 1.0, 1.5]), [-10, -9, -8])
    image = np.ones((11, 20, 12), dtype=np.float32)
    image[0] = 0.02
    far = np.linalg.norm(nib.affines.apply_affine(affine, np.stack(np.indices(image.shape), -1)) - [1, 0, 2], axis=-1)
    sharp, soft = (Cavity((1, 0, 2), 6, edge, 0.2) for edge in (0, 2))
    np.testing.assert_allclose(sharp.distance(image.shape, affine), far, atol=1e-9)
    wanted = np.where((far <= 6) & (image > HEAD), 0.2, image).astype(np.float32)
    np.testing.assert_allclose(sharp.fill(image, affine, HEAD), wanted, atol=1e-6)
    filled = soft.fill(image, affine, HEAD)
    assert np.abs(filled - image)[soft.outside(image.shape, affine)].max() < 0.02
    assert filled[(far < 4) & (image > HEAD)].max() < 0.22
