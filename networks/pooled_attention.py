"""Attention of every token of a grid to averages of neighbouring tokens."""

# No postponed annotations here: TorchScript reads them.
from typing import Optional

from torch import Tensor, nn

from networks.attention import AttentionBase
from networks.checks import check_grid
from networks.padding import pad_to_multiple
from networks.position import AxialRotary


class PooledAttention(AttentionBase):
    """Each token attends to the averages of ``key_reduction``^3 neighbours: r^3 times fewer keys and scores.

    Spatial reduction of keys and values (PVT, arXiv 2102.12122) by averaging (PVTv2, arXiv 2106.13797), without layers
    of its own: weights have the names and shapes of ``SABlock``, so a checkpoint of either loads into the other, and
    with ``key_reduction=1`` the results are the same. A cell that reaches over the grid's end averages the tokens that
    it has.

    Args:
        hidden_size: width C of a token.
        num_heads: number of heads.
        key_reduction: tokens along each axis that make one key, r.
        dropout_rate: probability of dropping an attention weight or an output unit, in training.
        qkv_bias: whether the projections have a bias.
        dim_head: width of a head; ``hidden_size // num_heads`` when ``None``.
        rotary: rotate queries and keys by their position, a cell's being the mean of its tokens'; see ``AxialRotary``.
        use_combined_linear: fused or separate projections; same results.
        use_flash_attention: fused or eager kernel; same results.
        qk_norm: normalise queries and keys, see ``SABlock``.
        norm_eps: added to the variance by that norm.

    Raises:
        ValueError: when ``key_reduction`` is below 1 or an argument of ``SABlock`` is out of range.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        key_reduction: int = 2,
        dropout_rate: float = 0.0,
        qkv_bias: bool = False,
        dim_head: int | None = None,
        rotary: bool = False,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        if key_reduction < 1:
            raise ValueError(f"key_reduction must be at least 1, got {key_reduction}.")
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
        self.key_reduction = key_reduction
        self.use_rotary = rotary
        self.rotary = AxialRotary(self.dim_head) if rotary else nn.Identity()

    def forward(self, x: Tensor, attn_mask: Optional[Tensor] = None) -> Tensor:
        """Attend.

        Args:
            x: tokens, shape (B, D, H, W, C).
            attn_mask: tokens to attend to, bool, shape (B, D, H, W), True = attend. The others count in no average.

        Returns:
            Tokens, shape (B, D, H, W, C).

        Raises:
            ValueError: when tokens or mask have another shape.
        """
        check_grid(x, self.hidden_input_size, attn_mask)
        depth, height, width = x.shape[1], x.shape[2], x.shape[3]
        keys: Optional[Tensor] = None
        if attn_mask is None:
            share = average(x.new_ones([1, depth, height, width, 1]), self.key_reduction)
            averages = average(x, self.key_reduction) / share
        else:
            kept = attn_mask[..., None].to(x.dtype)
            share = average(kept, self.key_reduction)
            averages = average(x * kept, self.key_reduction) / share.where(share > 0, 1.0)
            keys = (share > 0).flatten(1)  # (B, M)
        context = averages.flatten(1, 3)  # (B, M, C)
        rotary: Optional[Tensor] = None
        context_rotary: Optional[Tensor] = None
        if self.use_rotary:
            rotary = self.rotary(depth, height, width)
            context_rotary = self.rotary(depth, height, width, None, self.key_reduction)
        out = self._attend(x.flatten(1, 3), context, keys, rotary, context_rotary)
        return out.reshape(x.shape)


def average(tokens: Tensor, size: int) -> Tensor:
    """Average cells of ``size``^3 of (B, D, H, W, C), zeros beyond the grid's end among them.

    Not by ``avg_pool3d``, into which ONNX Runtime draws the padding, and then leaves it out of the average. One axis
    after another, since a sum over several is slow on a CPU, and with four axes at a time, since OpenVINO has no fast
    sum where there are more than five.
    """
    padded = pad_to_multiple(tokens.movedim(-1, 1), [size, size, size]).movedim(1, -1)
    batch, channels = padded.shape[0], padded.shape[4]
    depth, height, width = padded.shape[1] // size, padded.shape[2] // size, padded.shape[3] // size
    cells = padded.reshape([batch, depth, size, height * size * width * size * channels]).mean(dim=2)
    cells = cells.reshape([batch * depth, height, size, width * size * channels]).mean(dim=2)
    cells = cells.reshape([batch * depth * height, width, size, channels]).mean(dim=2)
    return cells.reshape([batch, depth, height, width, channels])
