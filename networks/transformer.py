"""A pre-norm transformer block on ``SABlock``."""

from __future__ import annotations

from typing import Any, Optional

from monai.networks.blocks.mlp import MLPBlock
from torch import Tensor, nn

from networks.attention import SABlock


class TransformerBlock(nn.Module):
    """Attention and MLP with residuals; argument names and state-dict keys follow MONAI's ``TransformerBlock``.

    Args:
        hidden_size: width of a token.
        mlp_dim: width of the MLP's hidden layer.
        num_heads: number of attention heads.
        dropout_rate: dropout probability in training.
        qkv_bias: whether the q, k and v projections have a bias.
        save_attn: keep the attention weights, see ``SABlock``.
        use_combined_linear: fused or separate QKV projections; same results.
        use_flash_attention: fused or eager attention kernel; same results.

    Raises:
        ValueError: when an argument is out of range, see ``SABlock``.
    """

    def __init__(
        self,
        hidden_size: int,
        mlp_dim: int,
        num_heads: int,
        dropout_rate: float = 0.0,
        qkv_bias: bool = False,
        save_attn: bool = False,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size)
        self.attn = SABlock(
            hidden_size,
            num_heads,
            dropout_rate,
            qkv_bias=qkv_bias,
            save_attn=save_attn,
            use_combined_linear=use_combined_linear,
            use_flash_attention=use_flash_attention,
        )
        self.norm2 = nn.LayerNorm(hidden_size)
        self.mlp = MLPBlock(hidden_size, mlp_dim, dropout_rate)
        self._register_load_state_dict_pre_hook(self._drop_unused)

    def _drop_unused(self, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
        # MONAI's block always carries a norm for cross-attention, used or not.
        for kind in ("weight", "bias"):
            state_dict.pop(f"{prefix}norm_cross_attn.{kind}", None)

    def init_weights(self, std: float) -> None:
        """Draw all linears anew, see ``SABlock.init_weights``."""
        self.attn.init_weights(std)
        for linear in (self.mlp.linear1, self.mlp.linear2):
            nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, attn_mask: Optional[Tensor] = None, rotary: Optional[Tensor] = None) -> Tensor:
        """Map tokens (B, N, C) to tokens (B, N, C); mask and tables as in ``SABlock.forward``."""
        x = x + self.attn(self.norm1(x), attn_mask, rotary)
        return x + self.mlp(self.norm2(x))
