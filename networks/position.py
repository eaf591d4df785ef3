"""Positions of tokens on a 3D grid: a learnable absolute grid, and axial rotary tables."""

# No postponed annotations here: TorchScript reads the buffer's type from the class.
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

    def _angles(self, size: int) -> Tensor:
        positions = torch.arange(size, dtype=self.frequencies.dtype, device=self.frequencies.device)
        return positions[:, None] * self.frequencies[None, :]  # (size, pairs)

    def forward(self, depth: int, height: int, width: int) -> Tensor:
        """Return cosine and sine for each token of the grid, depth slowest, shape (2, N, R) with R = 3 * pairs."""
        shape = [depth, height, width, self.frequencies.shape[0]]
        angles = torch.cat(
            [
                self._angles(depth)[:, None, None, :].expand(shape),
                self._angles(height)[None, :, None, :].expand(shape),
                self._angles(width)[None, None, :, :].expand(shape),
            ],
            dim=-1,
        ).reshape(depth * height * width, 3 * self.frequencies.shape[0])
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
