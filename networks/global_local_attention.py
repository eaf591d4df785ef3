"""Attention of a token grid to all of it and, beside that, over its blocks."""

# No postponed annotations here: TorchScript reads ``Final`` from the class.
from collections.abc import Sequence
from typing import Any, Final, Optional

import torch
import torch.nn.functional as F
from monai.utils.misc import ensure_tuple_rep
from torch import Tensor, nn

from networks.attention import AttentionBase
from networks.checks import check_grid
from networks.cross_attention import CrossAttentionBlock
from networks.local_attention import BlockAttention
from networks.position import AxialRotary

FUSIONS = ("add", "mult", "avg", "max", "gate")


class GlobalLocalAttention(nn.Module):
    """A global and a block branch over the same tokens, each scaled to unit length at every token, then fused.

    The 3D form of PGL-SUM's attention (Apostolidis et al., ISM 2021), with one set of weights for all blocks. The
    global branch costs N^2 scores a head, or N * M with ``pooled_size``, where keys and values come from at most M
    averages of the tokens: then the whole is linear in the tokens.

    Args:
        hidden_size: width C of a token.
        num_heads: number of heads of each branch.
        block_size: tokens of a block along each axis, one number or three.
        fusion: ``"add"``, ``"mult"``, ``"avg"``, ``"max"``, or ``"gate"``: g * global + (1 - g) * local with a learned
            g in 0 to 1 for each channel.
        shift: see ``BlockAttention``.
        pooled_size: cells along each axis to which the global keys are averaged, one number or three; ``None`` for
            all tokens. An axis with fewer tokens is not pooled.
        use_global: whether the global branch exists. With one branch, its output is returned as it is.
        use_local: whether the block branch exists.
        dropout_rate: probability of dropping an attention weight or an output unit, in training.
        qkv_bias: whether the projections have a bias.
        dim_head: width of a head; ``hidden_size // num_heads`` when ``None``.
        rotary: rotate queries and keys by their position, see ``AxialRotary``.
        use_combined_linear: fused or separate projections; same results.
        use_flash_attention: fused or eager kernel; same results.
        qk_norm: normalise queries and keys, see ``SABlock``.
        norm_eps: added to the variance by that norm.

    Raises:
        ValueError: when ``fusion`` is unknown, no branch is left, ``pooled_size`` is below 1, or an argument of
            ``BlockAttention`` is out of range.
    """

    use_global: Final[bool]
    use_local: Final[bool]
    use_rotary: Final[bool]

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        block_size: int | Sequence[int],
        fusion: str = "add",
        shift: int | Sequence[int] = 0,
        pooled_size: int | Sequence[int] | None = None,
        use_global: bool = True,
        use_local: bool = True,
        dropout_rate: float = 0.0,
        qkv_bias: bool = False,
        dim_head: int | None = None,
        rotary: bool = False,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {fusion!r}.")
        if not use_global and not use_local:
            raise ValueError("use_global and use_local must not both be False.")
        cells = ensure_tuple_rep(pooled_size if pooled_size is not None else 0, 3)
        if pooled_size is not None and min(cells) < 1:
            raise ValueError(f"pooled_size must be at least 1 along each axis, got {pooled_size}.")
        self.hidden_size = hidden_size
        self.fusion = fusion
        self.pooled_size = [int(count) for count in cells]
        self.use_global = use_global
        self.use_local = use_local
        self.use_rotary = rotary
        options: dict[str, Any] = {
            "dropout_rate": dropout_rate,
            "qkv_bias": qkv_bias,
            "dim_head": dim_head,
            "use_combined_linear": use_combined_linear,
            "use_flash_attention": use_flash_attention,
            "qk_norm": qk_norm,
            "norm_eps": norm_eps,
        }
        none = nn.Identity()
        self.global_branch = CrossAttentionBlock(hidden_size, num_heads, **options) if use_global else none
        self.local_branch = (
            BlockAttention(hidden_size, num_heads, block_size, shift, rotary=rotary, **options) if use_local else none
        )
        gated = fusion == "gate" and use_global and use_local
        self.gate = nn.Linear(2 * hidden_size, hidden_size) if gated else none
        self.rotary = AxialRotary(dim_head or hidden_size // num_heads) if rotary and use_global else none

    def init_weights(self, std: float) -> None:
        """Draw all linears anew, see ``SABlock.init_weights``."""
        for branch in (self.global_branch, self.local_branch):
            if isinstance(branch, AttentionBase):
                branch.init_weights(std)
        if isinstance(self.gate, nn.Linear):
            nn.init.trunc_normal_(self.gate.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(self.gate.bias)

    def _attend_globally(self, x: Tensor, attn_mask: Optional[Tensor]) -> Tensor:
        """Let each token attend to all tokens or to their averages, shape (B, D, H, W, C) -> (B, D, H, W, C)."""
        depth, height, width = x.shape[1], x.shape[2], x.shape[3]
        keys = None if attn_mask is None else attn_mask.flatten(1)  # (B, N)
        rotary: Optional[Tensor] = None
        context_rotary: Optional[Tensor] = None
        if self.use_rotary:
            rotary = self.rotary(depth, height, width)
            context_rotary = rotary
        context: Optional[Tensor] = None
        if self.pooled_size[0] > 0:
            cells = [min(depth, self.pooled_size[0]), min(height, self.pooled_size[1]), min(width, self.pooled_size[2])]
            grid = x.movedim(-1, 1)  # (B, C, D, H, W)
            if attn_mask is None:
                averages = average(grid, cells)
            else:
                kept = attn_mask[:, None].to(x.dtype)
                share = average(kept, cells)
                averages = average(grid * kept, cells) / share.where(share > 0, 1.0)
                keys = (share > 0).flatten(1)
            context = averages.flatten(2).transpose(1, 2)  # (B, M, C)
            if self.use_rotary:
                context_rotary = self.rotary(depth, height, width, cells)
        out: Tensor = self.global_branch(x.flatten(1, 3), context, keys, rotary, context_rotary)
        return out.reshape(x.shape)

    def _fuse(self, far: Tensor, near: Tensor) -> Tensor:
        far, near = F.normalize(far, dim=-1), F.normalize(near, dim=-1)
        if self.fusion == "add":
            return far + near
        if self.fusion == "mult":
            return far * near
        if self.fusion == "avg":
            return (far + near) / 2
        if self.fusion == "max":
            return torch.maximum(far, near)
        gate = torch.sigmoid(self.gate(torch.cat([far, near], dim=-1)))
        return gate * far + (1 - gate) * near

    def forward(self, x: Tensor, attn_mask: Optional[Tensor] = None) -> Tensor:
        """Attend.

        Args:
            x: tokens, shape (B, D, H, W, C).
            attn_mask: tokens to attend to, bool, shape (B, D, H, W), True = attend.

        Returns:
            Tokens, shape (B, D, H, W, C).

        Raises:
            ValueError: when tokens or mask have another shape.
        """
        check_grid(x, self.hidden_size, attn_mask)
        if self.use_global and self.use_local:
            return self._fuse(self._attend_globally(x, attn_mask), self.local_branch(x, attn_mask))
        if self.use_global:
            return self._attend_globally(x, attn_mask)
        near: Tensor = self.local_branch(x, attn_mask)
        return near


def average(grid: Tensor, cells: list[int]) -> Tensor:
    """Average a grid (B, C, D, H, W) over cells to (B, C, *cells)."""
    return F.interpolate(grid, size=cells, mode="area")
