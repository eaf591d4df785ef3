"""Positions: the learnable grid and the rotary tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from networks.position import AxialRotary, PositionGrid, apply_rotary


def test_grid_at_its_own_size_is_itself():
    grid = PositionGrid(5, (3, 4, 2))
    assert torch.equal(grid(3, 4, 2), grid.grid)


def test_grid_resamples_trilinearly():
    grid = PositionGrid(1, (4, 5, 3))
    size = (7, 9, 8)
    centres = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(size, (4, 5, 3), strict=True)]
    expected = map_coordinates(
        grid.grid.detach().numpy()[0, 0], np.meshgrid(*centres, indexing="ij"), order=1, mode="nearest"
    )
    np.testing.assert_allclose(grid(*size).detach().numpy()[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("dim_head", [4, 6, 10, 32, 64])
def test_rotary_depends_on_offsets_only(dim_head):
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(dim_head, generator=generator, dtype=torch.float64) for _ in range(2))
    rotary = AxialRotary(dim_head)(4, 5, 6).double()
    assert rotary.shape == (2, 120, 3 * (dim_head // 6))
    queries = apply_rotary(q.expand(1, 1, 120, -1), rotary)[0, 0]
    keys = apply_rotary(k.expand(1, 1, 120, -1), rotary)[0, 0]
    scores = (queries @ keys.T).reshape(4, 5, 6, 4, 5, 6)
    assert scores[0, 0, 0, 1, 2, 3] == pytest.approx(scores[2, 1, 2, 3, 3, 5].item(), abs=1e-6)
    torch.testing.assert_close(queries.norm(dim=-1), q.norm().expand(120))


def test_each_axis_turns_its_own_third():
    rotary = AxialRotary(12)
    angles = torch.atan2(rotary(3, 1, 1)[1], rotary(3, 1, 1)[0])
    assert torch.equal(angles[:, 2:], torch.zeros(3, 4))
    torch.testing.assert_close(angles[:, 0], torch.tensor([0.0, 1.0, 2.0]))
