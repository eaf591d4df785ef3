"""Attention of tokens to a context of other tokens."""

# No postponed annotations here: TorchScript reads them.
from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from networks.attention import AttentionBase
from networks.relative_position import RelativePosition


class CrossAttentionBlock(AttentionBase):
    """Attention of tokens to a context; keys of the separate layout as ``monai.networks.blocks.CrossAttentionBlock``.

    Arguments: see ``AttentionBase``, here in MONAI's order; ``context_input_size`` is ``hidden_size`` when ``None``.
    One linear (``use_combined_linear``) needs inputs and context of the same width.
    """

    takes_context = True

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        dropout_rate: float = 0.0,
        hidden_input_size: int | None = None,
        context_input_size: int | None = None,
        dim_head: int | None = None,
        qkv_bias: bool = False,
        save_attn: bool = False,
        causal: bool = False,
        sequence_length: int | None = None,
        rel_pos_embedding: RelativePosition | None = None,
        input_size: Sequence[int] | None = None,
        attention_dtype: torch.dtype | None = None,
        use_flash_attention: bool = True,
        *,
        use_combined_linear: bool = False,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__(
            hidden_size,
            num_heads,
            dropout_rate,
            qkv_bias=qkv_bias,
            save_attn=save_attn,
            dim_head=dim_head,
            hidden_input_size=hidden_input_size,
            context_input_size=context_input_size or hidden_size,
            causal=causal,
            sequence_length=sequence_length,
            rel_pos_embedding=rel_pos_embedding,
            input_size=input_size,
            attention_dtype=attention_dtype,
            use_combined_linear=use_combined_linear,
            use_flash_attention=use_flash_attention,
            qk_norm=qk_norm,
            norm_eps=norm_eps,
        )

    def forward(
        self,
        x: Tensor,
        context: Optional[Tensor] = None,
        attn_mask: Optional[Tensor] = None,
        rotary: Optional[Tensor] = None,
        context_rotary: Optional[Tensor] = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: tokens, shape (B, Q, C).
            context: tokens that give keys and values, shape (B, K, context_input_size); ``x`` when ``None``.
            attn_mask: as in ``SABlock``, for Q queries and K keys.
            rotary: rotation tables of the Q positions, shape (2, Q, R).
            context_rotary: those of the K positions.

        Returns:
            Tokens, shape (B, Q, C).

        Raises:
            ValueError: when tokens, context or mask have another shape.
        """
        return self._attend(x, context, attn_mask, rotary, context_rotary)
