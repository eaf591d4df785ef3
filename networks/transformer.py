"""A pre-norm transformer block whose attention is global, over blocks, or both."""

# No postponed annotations here: TorchScript reads ``Final`` from the class.
from collections.abc import Sequence
from typing import Any, Final, Optional

from monai.networks.blocks.mlp import MLPBlock
from torch import Tensor, nn

from networks.attention import SABlock
from networks.checks import check_sequence_or_grid
from networks.cross_attention import CrossAttentionBlock
from networks.global_local_attention import GlobalLocalAttention
from networks.load_hook import before_loading
from networks.local_attention import BlockAttention
from networks.pooled_attention import PooledAttention

ATTENTIONS = ("global", "pooled", "block", "global_local")


class TransformerBlock(nn.Module):
    """Attention and MLP with residuals; argument names and state-dict keys follow MONAI's ``TransformerBlock``.

    Args:
        hidden_size: width of a token.
        mlp_dim: width of the MLP's hidden layer.
        num_heads: number of attention heads.
        dropout_rate: dropout probability in training.
        qkv_bias: whether the q, k and v projections have a bias.
        save_attn: keep the attention weights, see ``SABlock``; global attention only.
        causal: let token i attend to tokens 0 to i only; global attention only.
        sequence_length: longest sequence, needed when ``causal``.
        with_cross_attention: add a layer that attends to a context, between attention and MLP.
        use_flash_attention: fused or eager attention kernel; same results.
        include_fc: whether attention has an output projection; global attention only.
        use_combined_linear: fused or separate QKV projections; same results.
        qk_norm: normalise queries and keys, see ``SABlock``.
        norm_eps: added to the variance by the layer norms.
        attention: ``"global"`` (``SABlock``), ``"pooled"`` (``PooledAttention``), ``"block"`` (``BlockAttention``) or
            ``"global_local"`` (``GlobalLocalAttention``). All but the first need tokens (B, D, H, W, C) and rotate by
            position themselves.
        block_size: tokens of a block along each axis, see ``BlockAttention``.
        shift: see ``BlockAttention``.
        fusion: see ``GlobalLocalAttention``.
        pooled_size: see ``GlobalLocalAttention``.
        key_reduction: see ``PooledAttention``.

    Raises:
        ValueError: when an argument is out of range or has no meaning for the kind of attention.
    """

    attends_globally: Final[bool]
    with_cross_attention: Final[bool]

    def __init__(
        self,
        hidden_size: int,
        mlp_dim: int,
        num_heads: int,
        dropout_rate: float = 0.0,
        qkv_bias: bool = False,
        save_attn: bool = False,
        causal: bool = False,
        sequence_length: int | None = None,
        with_cross_attention: bool = False,
        use_flash_attention: bool = True,
        include_fc: bool = True,
        use_combined_linear: bool = True,
        *,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
        attention: str = "global",
        block_size: int | Sequence[int] = 4,
        shift: int | Sequence[int] = 0,
        fusion: str = "add",
        pooled_size: int | Sequence[int] | None = None,
        key_reduction: int = 2,
    ) -> None:
        super().__init__()
        check_attention(attention, save_attn, causal, include_fc)
        self.hidden_size = hidden_size
        self.attends_globally = attention == "global"
        self.with_cross_attention = with_cross_attention
        options: dict[str, Any] = {
            "dropout_rate": dropout_rate,
            "qkv_bias": qkv_bias,
            "use_combined_linear": use_combined_linear,
            "use_flash_attention": use_flash_attention,
            "qk_norm": qk_norm,
            "norm_eps": norm_eps,
        }
        self.norm1 = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.attn: SABlock | PooledAttention | BlockAttention | GlobalLocalAttention
        if attention == "global":
            whole: dict[str, Any] = {"causal": causal, "sequence_length": sequence_length, "include_fc": include_fc}
            self.attn = SABlock(hidden_size, num_heads, save_attn=save_attn, **whole, **options)
        elif attention == "pooled":
            self.attn = PooledAttention(hidden_size, num_heads, key_reduction, rotary=True, **options)
        elif attention == "block":
            self.attn = BlockAttention(hidden_size, num_heads, block_size, shift, rotary=True, **options)
        else:
            self.attn = GlobalLocalAttention(
                hidden_size, num_heads, block_size, fusion, shift, pooled_size, rotary=True, **options
            )
        none = nn.Identity()
        self.norm_cross_attn = nn.LayerNorm(hidden_size, eps=norm_eps) if with_cross_attention else none
        self.cross_attn = CrossAttentionBlock(hidden_size, num_heads, **options) if with_cross_attention else none
        self.norm2 = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.mlp = MLPBlock(hidden_size, mlp_dim, dropout_rate)
        before_loading(self, self._drop_unused)

    def _drop_unused(self, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
        # MONAI's block always carries a norm for cross-attention, and older ones the attention too, used or not.
        if not self.with_cross_attention:
            for key in [
                key for key in state_dict if key.startswith((f"{prefix}norm_cross_attn.", f"{prefix}cross_attn."))
            ]:
                del state_dict[key]

    def init_weights(self, std: float) -> None:
        """Draw all linears anew, see ``SABlock.init_weights``."""
        self.attn.init_weights(std)
        if isinstance(self.cross_attn, CrossAttentionBlock):
            self.cross_attn.init_weights(std)
        for linear in (self.mlp.linear1, self.mlp.linear2):
            nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Tensor,
        context: Optional[Tensor] = None,
        attn_mask: Optional[Tensor] = None,
        rotary: Optional[Tensor] = None,
    ) -> Tensor:
        """Transform tokens.

        Args:
            x: tokens, shape (B, N, C) or (B, D, H, W, C).
            context: tokens for the cross-attention, shape (B, K, C).
            attn_mask: see the attention's ``forward``.
            rotary: tables of the N positions for global attention, see ``SABlock``.

        Returns:
            Tensor of the shape of ``x``.

        Raises:
            ValueError: when tokens, context or mask have another shape.
        """
        check_sequence_or_grid(x, self.hidden_size)
        normed = self.norm1(x)
        if self.attends_globally:
            x = x + self.attn(normed.flatten(1, -2), attn_mask, rotary).reshape(x.shape)
        else:
            x = x + self.attn(normed, attn_mask)
        if self.with_cross_attention:
            normed = self.norm_cross_attn(x).flatten(1, -2)
            x = x + self.cross_attn(normed, context).reshape(x.shape)
        transformed: Tensor = x + self.mlp(self.norm2(x))
        return transformed


def check_attention(attention: str, save_attn: bool, causal: bool, include_fc: bool) -> None:
    """Raise ValueError unless there is such an attention and it can do what is asked of it."""
    if attention not in ATTENTIONS:
        raise ValueError(f"attention must be one of {', '.join(ATTENTIONS)}, got {attention!r}.")
    if attention != "global" and (save_attn or causal or not include_fc):
        raise ValueError(f"save_attn, causal and include_fc=False need global attention, got {attention!r}.")
