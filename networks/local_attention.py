"""Attention over blocks of a token grid."""

# No postponed annotations here: TorchScript reads ``Final`` from the class.
from collections.abc import Sequence
from typing import Final, Optional

import torch
import torch.nn.functional as F
from monai.utils.misc import ensure_tuple_rep
from torch import Tensor, nn

from networks.attention import AttentionBase
from networks.checks import check_grid
from networks.position import AxialRotary


class BlockAttention(AttentionBase):
    """Self-attention inside each block of a token grid; no block sees another, and all share their weights.

    It equals ``SABlock`` on all tokens with a block-diagonal mask, at a cost that is linear in the tokens:
    N * b^3 scores a head in place of N^2. State-dict keys are those of ``SABlock``. Grids that the blocks do not fill
    are padded, and the padding is masked.

    Args:
        hidden_size: width C of a token.
        num_heads: number of heads.
        block_size: tokens of a block along each axis, one number or three.
        shift: tokens of the first block along each axis, 0 for a full one: moves the borders between the blocks.
        dropout_rate: probability of dropping an attention weight or an output unit, in training.
        qkv_bias: whether the projections have a bias.
        dim_head: width of a head; ``hidden_size // num_heads`` when ``None``.
        rotary: rotate queries and keys by their place in the block, see ``AxialRotary``.
        use_combined_linear: fused or separate projections; same results.
        use_flash_attention: fused or eager kernel; same results.
        qk_norm: normalise queries and keys, see ``SABlock``.
        norm_eps: added to the variance by that norm.

    Raises:
        ValueError: when a size is below 1, a shift is negative or not below its block size, or an argument of
            ``SABlock`` is out of range.
    """

    use_rotary: Final[bool]

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        block_size: int | Sequence[int],
        shift: int | Sequence[int] = 0,
        dropout_rate: float = 0.0,
        qkv_bias: bool = False,
        dim_head: int | None = None,
        rotary: bool = False,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__(
            hidden_size,
            num_heads,
            dropout_rate,
            qkv_bias=qkv_bias,
            dim_head=dim_head,
            use_combined_linear=use_combined_linear,
            use_flash_attention=use_flash_attention,
            qk_norm=qk_norm,
            norm_eps=norm_eps,
        )
        blocks, shifts = ensure_tuple_rep(block_size, 3), ensure_tuple_rep(shift, 3)
        if min(blocks) < 1:
            raise ValueError(f"block_size must be at least 1 along each axis, got {block_size}.")
        if any(not 0 <= moved < size for moved, size in zip(shifts, blocks, strict=True)):
            raise ValueError(f"shift must lie in 0 to block_size {block_size} (excluded), got {shift}.")
        self.block_size = [int(size) for size in blocks]
        self.front = [int(size - moved) % int(size) for moved, size in zip(shifts, blocks, strict=True)]
        self.use_rotary = rotary
        self.rotary = AxialRotary(self.dim_head) if rotary else nn.Identity()

    def _partition(self, x: Tensor) -> Tensor:
        """Pad and cut a grid (B, D, H, W, C) into blocks (B, nD, nH, nW, bD * bH * bW, C)."""
        padding = [0, 0]
        for axis in (2, 1, 0):
            size, front = self.block_size[axis], self.front[axis]
            padding += [front, -(x.shape[axis + 1] + front) % size]
        x = F.pad(x, padding)
        depth, height, width = self.block_size
        x = x.reshape(
            x.shape[0], x.shape[1] // depth, depth, x.shape[2] // height, height, x.shape[3] // width, width, x.shape[4]
        )
        return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6)

    def _join(self, blocks: Tensor, depth: int, height: int, width: int) -> Tensor:
        """Undo ``_partition``: blocks (B, nD, nH, nW, b^3, C) to a grid (B, depth, height, width, C)."""
        x = torch.unflatten(blocks, 4, [self.block_size[0], self.block_size[1], self.block_size[2]])
        x = x.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 2).flatten(2, 3).flatten(3, 4)
        size, padding = [depth, height, width], [0, 0]
        for axis in (2, 1, 0):
            front = self.front[axis]
            padding += [-front, size[axis] + front - x.shape[axis + 1]]
        return F.pad(x, padding)

    def _needs_mask(self, x: Tensor) -> bool:
        """Tell whether some block is not full. While a program is traced for any size, that must be assumed."""
        if not torch.jit.is_scripting() and torch.compiler.is_compiling():
            return True
        needs = False
        for axis in range(3):
            needs = needs or self.front[axis] > 0 or x.shape[axis + 1] % self.block_size[axis] != 0
        return needs

    def forward(self, x: Tensor, attn_mask: Optional[Tensor] = None) -> Tensor:
        """Attend inside each block.

        Args:
            x: tokens, shape (B, D, H, W, C).
            attn_mask: tokens to attend to, bool, shape (B, D, H, W), True = attend.

        Returns:
            Tokens, shape (B, D, H, W, C).

        Raises:
            ValueError: when tokens or mask have another shape.
        """
        check_grid(x, self.hidden_input_size, attn_mask)
        blocks = self._partition(x)  # (B, nD, nH, nW, b^3, C)
        keys: Optional[Tensor] = None
        if attn_mask is not None or self._needs_mask(x):
            mask = torch.ones(x.shape[:4], dtype=torch.bool, device=x.device) if attn_mask is None else attn_mask
            keys = self._partition(mask[..., None]).flatten(0, 3).squeeze(-1)  # (B * blocks, b^3)
        rotary: Optional[Tensor] = None
        if self.use_rotary:
            rotary = self.rotary(self.block_size[0], self.block_size[1], self.block_size[2])
        out = self._attend(blocks.flatten(0, 3), None, keys, rotary, rotary)
        return self._join(out.reshape(blocks.shape), x.shape[1], x.shape[2], x.shape[3])
