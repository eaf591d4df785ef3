"""Label maps at another voxel size: each voxel takes the code that has most of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bundle.io.label_map import read_label_map
from bundle.io.orientation import ras_affine, to_ras

MARGIN = 3
"""Voxels of background kept around what is labelled."""


def resampled_codes(path: str | Path, spacing: float) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Return the codes of a label map with cubic voxels, axes towards R, A, S, cropped, and their affine.

    The share of each code is interpolated linearly; the largest wins. A map that has the spacing keeps its codes.

    Args:
        path: the label map.
        spacing: edge of a voxel in mm.

    Raises:
        InputError: when the file is no label map.
    """
    label_map = read_label_map(path)
    affine = ras_affine(label_map.grid.affine, label_map.codes.shape)
    codes = np.ascontiguousarray(to_ras(label_map.codes, label_map.grid.affine), dtype=np.int16)
    codes, affine = _cropped(codes, affine)
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    factors = edges / spacing
    if np.allclose(factors, 1, atol=1e-3):
        return codes, affine
    result = torch.from_numpy(majority(codes, [float(factor) for factor in factors]))
    scaling = np.eye(4)
    scaling[:3, :3] = np.diag(1 / factors)
    scaling[:3, 3] = (1 / factors - 1) / 2
    return result.numpy(), affine @ scaling


def majority(codes: NDArray[np.int16], factors: list[float]) -> NDArray[np.int16]:
    """Return codes on a grid with ``factors`` times as many voxels along each axis, by the largest share."""
    source = torch.from_numpy(codes)
    best = torch.zeros(0)
    result = torch.zeros(0, dtype=torch.int16)
    for code in source.unique().tolist():
        share = F.interpolate(
            (source == code)[None, None].float(), scale_factor=factors, mode="trilinear", align_corners=False
        )[0, 0]
        if not len(best):
            best, result = share, torch.full(share.shape, code, dtype=torch.int16)
            continue
        larger = share > best
        best = torch.where(larger, share, best)
        result[larger] = code
    return result.numpy()


def _cropped(codes: NDArray[np.int16], affine: NDArray[np.float64]) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    start, spans = np.zeros(3), []
    for axis in range(3):
        filled = np.flatnonzero(codes.any(axis=tuple({0, 1, 2} - {axis})))
        low = max(int(filled[0]) - MARGIN, 0) if len(filled) else 0
        start[axis] = low
        spans.append(slice(low, int(filled[-1]) + 1 + MARGIN if len(filled) else None))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ start
    return np.ascontiguousarray(codes[tuple(spans)]), moved
