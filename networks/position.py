"""Positions of tokens on a 3D grid: a learnable absolute grid, and axial rotary tables."""

# No postponed annotations here: TorchScript reads the buffer's type from the class.
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PositionGrid(nn.Module):
    """A learnable grid of position vectors, resampled trilinearly to the token grid at hand.

    Args:
        hidden_size: width C of a token.
        grid_size: number of grid points along depth, height and width.
        init_std: standard deviation of the initial values.
    """

    def __init__(self, hidden_size: int, grid_size: tuple[int, int, int], init_std: float = 0.02) -> None:
        super().__init__()
        self.grid = nn.Parameter(torch.empty(1, hidden_size, *grid_size))
        nn.init.trunc_normal_(self.grid, std=init_std)

    def forward(self, depth: int, height: int, width: int) -> Tensor:
        """Return the positions of a token grid, shape (1, C, depth, height, width)."""
        return F.interpolate(self.grid, size=[depth, height, width], mode="trilinear", align_corners=False)


class AxialRotary(nn.Module):
    """Rotation tables for 3D axial rotary position embedding (RoFormer, arXiv 2104.09864; Primus, arXiv 2503.01835).

    Each axis rotates the largest even part of a third of the head; what is left over stays as it is, so that every
    head width works (below 6 nothing rotates).

    Args:
        dim_head: width of a head.
        base: ratio of the fastest to the slowest angular frequency.
    """

    frequencies: Tensor

    def __init__(self, dim_head: int, base: float = 100.0) -> None:
        super().__init__()
        pairs = dim_head // 6
        frequencies = base ** -(torch.arange(pairs, dtype=torch.float32) / max(pairs, 1))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def _angles(self, size: int, cells: int) -> Tensor:
        cell = torch.arange(cells, device=self.frequencies.device)
        # Adaptive pooling averages tokens floor(i * size / cells) to ceil((i + 1) * size / cells) - 1.
        return self._between(cell * size // cells, -(-(cell + 1) * size // cells))

    def _reduced(self, size: int, reduction: int) -> Tensor:
        cells = (size + reduction - 1) // reduction
        first = reduction * torch.arange(cells, device=self.frequencies.device)
        return self._between(first, (first + reduction).clamp(max=size))

    def _between(self, first: Tensor, end: Tensor) -> Tensor:
        """Return the angles at the mean position of tokens ``first`` to ``end - 1``, (cells, pairs)."""
        positions = (first + end - 1).to(self.frequencies.dtype) / 2
        return positions[:, None] * self.frequencies[None, :]

    def forward(
        self, depth: int, height: int, width: int, cells: Optional[list[int]] = None, reduction: int = 1
    ) -> Tensor:
        """Return cosine and sine for each token of the grid, depth slowest.

        Args:
            depth: tokens along the first axis.
            height: tokens along the second.
            width: tokens along the third.
            cells: with three numbers, one entry for each cell of the grid after adaptive pooling to that size, at the
                mean position of its tokens.
            reduction: without ``cells``, one entry for each cell of so many tokens along each axis, likewise.

        Returns:
            Tensor of shape (2, N, R) with R = 3 * pairs.
        """
        if cells is None:
            along = [self._reduced(size, reduction) for size in [depth, height, width]]
        else:
            along = [self._angles(depth, cells[0]), self._angles(height, cells[1]), self._angles(width, cells[2])]
        shape = [along[0].shape[0], along[1].shape[0], along[2].shape[0], self.frequencies.shape[0]]
        angles = torch.cat(
            [
                along[0][:, None, None, :].expand(shape),
                along[1][None, :, None, :].expand(shape),
                along[2][None, None, :, :].expand(shape),
            ],
            dim=-1,
        ).reshape(shape[0] * shape[1] * shape[2], 3 * shape[3])
        return torch.stack([angles.cos(), angles.sin()])


def apply_rotary(x: Tensor, rotary: Tensor) -> Tensor:
    """Rotate the channel pairs (i, R + i) of each head by the angles of its position.

    Args:
        x: queries or keys, shape (B, H, N, D).
        rotary: cosine and sine, shape (2, N, R) with 2 * R <= D.

    Returns:
        Tensor of the shape of ``x``; channels from 2 * R on are unchanged.
    """
    pairs = rotary.shape[-1]
    cos, sin = rotary[0].to(x.dtype), rotary[1].to(x.dtype)  # (N, R)
    first, second, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return torch.cat([first * cos - second * sin, first * sin + second * cos, rest], dim=-1)
