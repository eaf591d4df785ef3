"""What ``benchmarks.scanners`` and ``benchmarks.painted`` do to a scan: by how much, and where."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.painted import CONTRASTS, Scan
from benchmarks.scanners import finer, near_coil, with_agent

SHAPE = (60, 70, 50)


@pytest.fixture
def pair():
    """A ball of white matter with a ventricle in a shell of fluid, black around, voxels of 2 mm."""
    grid = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij"))
    away = np.linalg.norm(grid, axis=0)
    labels = np.select([away < 6, away < 18], [4, 2], 0).astype(np.int16)
    image = np.select([away < 6, away < 18, away < 22], [200.0, 1000.0, 200.0], 0.0).astype(np.float32)
    return image, labels, np.diag([2.0, 2.0, 2.0, 1.0])


def test_finer_voxels_keep_corners_volumes_and_values(pair):
    image, labels, affine = pair
    fine, fine_labels, fine_affine = finer(pair, 0.8)
    assert fine.shape == (150, 175, 125)
    np.testing.assert_allclose(np.linalg.norm(fine_affine[:3, :3], axis=0), 0.8)
    for ends in (lambda shape: [-0.5] * 3, lambda shape: np.array(shape) - 0.5):
        np.testing.assert_allclose(fine_affine @ [*ends(fine.shape), 1], affine @ [*ends(SHAPE), 1])
    for code in (2, 4):
        assert (fine_labels == code).sum() * 0.8**3 == pytest.approx((labels == code).sum() * 8, rel=0.02)
    assert fine.max() == image.max()


def test_coil_is_about_four_times_as_strong_on_its_side(pair):
    image, labels, _ = pair
    lit, kept, _ = near_coil(pair, 3)
    field = lit[labels == 2] / image[labels == 2]
    assert 1.5 < field.max() / field.min() < 6
    assert (kept == labels).all()
    assert (lit[image == 0] == 0).all()


def test_agent_brightens_fluid_and_leaves_white_matter(pair):
    image, labels, _ = pair
    found, _, _ = with_agent(pair, 5)
    changed = found != image
    assert not changed[labels == 2].any()
    assert not changed[image == 0].any()
    for place in (labels == 4, (labels == 0) & (image > 0)):
        assert 0 < changed[place].mean() < 1
        assert found[place & changed].min() > 1000


@pytest.mark.parametrize(
    ("name", "order"),
    [("T2-like", "fluid grey white"), ("FLAIR-like", "grey white fluid"), ("PD-like", "grey fluid white"),
     ("inverted", "fluid grey white"), ("CT-like", "grey white fluid")],
)  # fmt: skip
def test_contrasts_have_the_order_of_their_kind_and_keep_texture(name, order):
    codes = np.zeros((24, 24, 24), dtype=np.int16)
    codes[2:-2, 2:-2, 2:-2], codes[6:-6, 6:-6, 6:-6], codes[10:-10, 10:-10, 10:-10] = 3, 2, 4
    means = np.select([codes == 3, codes == 2, codes == 4], [540.0, 800.0, 190.0], 0.0)
    texture = np.random.default_rng(0).normal(0, 8, codes.shape)
    image = np.where(codes > 0, means + texture, 0).astype(np.float32)
    found = CONTRASTS[name](Scan(image, codes, np.eye(4))).image
    tissues = {"grey": codes == 3, "white": codes == 2, "fluid": codes == 4}
    assert sorted(tissues, key=lambda tissue: -float(np.median(found[tissues[tissue]]))) == order.split()
    assert all(found[where].std() > 1 for where in tissues.values())
    if name != "CT-like":
        assert (found[codes == 0] == 0).all()
