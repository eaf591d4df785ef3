"""Multi-head attention over a token sequence with interchangeable projection layouts and kernels."""

# No postponed annotations here: TorchScript reads them.
from collections.abc import Sequence
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.checks import check_sequence
from networks.kernel import Attend
from networks.load_hook import before_loading
from networks.position import apply_rotary
from networks.qkv_layout import third_of, to_layout
from networks.relative_position import DecomposedRelativePosition, RelativePosition, relative_size


class AttentionBase(nn.Module):
    """Projections, kernel and output projection; the subclasses say which tokens attend to which.

    Two flags change how the result is computed and never what it is:

    - ``use_combined_linear``: one ``qkv`` linear, or ``to_q``, ``to_k``, ``to_v``. The branch not used is
      ``nn.Identity`` so that both forms script. A checkpoint of either layout loads into either form, and both
      draw the same initial weights from the same seed.
    - ``use_flash_attention``: ``F.scaled_dot_product_attention``, or softmax(q k^T) v written out, see ``Attend``.

    Args:
        hidden_size: width of the block.
        num_heads: number of heads H.
        dropout_rate: probability of dropping an attention weight or an output unit, in training.
        qkv_bias: whether the projections have a bias.
        save_attn: keep the last attention weights, shape (B, H, Q, K), in ``att_mat``. They are computed beside the
            fused kernel, so this costs the memory of the eager one.
        dim_head: width of a head; ``hidden_size // num_heads`` when ``None``.
        hidden_input_size: width C of the input and output; ``hidden_size`` when ``None``.
        causal: let token i attend to tokens 0 to i only.
        sequence_length: longest sequence, needed when ``causal``.
        rel_pos_embedding: ``"decomposed"`` (in any case, or a pair as MONAI's layers are named) adds relative positions
            to the scores, see ``DecomposedRelativePosition``.
        input_size: tokens along each axis, 2 or 3 numbers, needed with ``rel_pos_embedding``.
        attention_dtype: type in which attention runs; that of the input when ``None``.
        include_fc: whether the output projection exists.
        use_combined_linear: fused or separate projections.
        use_flash_attention: fused or eager kernel.
        qk_norm: normalise each head of the queries and keys (arXiv 2302.05442).
        norm_eps: added to the variance by that norm.
        context_input_size: width of the tokens that give keys and values, in ``CrossAttentionBlock``;
            ``hidden_input_size`` when ``None``.

    Raises:
        ValueError: when an argument is out of range or does not fit the others.
    """

    # Not ``Final``, which TorchScript does not see in a subclass with annotations of its own.
    __constants__ = ("use_combined_linear", "relative")
    takes_context = False  # whether keys and values may come from tokens of another width

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        dropout_rate: float = 0.0,
        qkv_bias: bool = False,
        save_attn: bool = False,
        dim_head: int | None = None,
        hidden_input_size: int | None = None,
        causal: bool = False,
        sequence_length: int | None = None,
        rel_pos_embedding: RelativePosition | None = None,
        input_size: Sequence[int] | None = None,
        attention_dtype: torch.dtype | None = None,
        include_fc: bool = True,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
        *,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
        context_input_size: int | None = None,
    ) -> None:
        super().__init__()
        check_heads(hidden_size, num_heads, dim_head, dropout_rate)
        if causal and sequence_length is None:
            raise ValueError("causal attention needs sequence_length, got None.")
        grid = relative_size(rel_pos_embedding, input_size)
        self.hidden_input_size = hidden_input_size or hidden_size
        self.context_input_size = context_input_size or self.hidden_input_size
        self.use_combined_linear = use_combined_linear
        self._check_context()
        self.num_heads = num_heads
        self.dim_head = dim_head or hidden_size // num_heads
        self.inner_dim = self.num_heads * self.dim_head
        self.scale = self.dim_head**-0.5
        self.dropout_rate = dropout_rate
        self.causal = causal
        self.sequence_length = sequence_length or 0
        self.save_attn = save_attn
        self.attention_dtype = attention_dtype
        self.include_fc = include_fc
        self.use_flash_attention = use_flash_attention
        self.relative = grid is not None

        none = nn.Identity()
        self.qkv, self.to_q, self.to_k, self.to_v = self._make_projections(qkv_bias)
        self.q_norm = nn.LayerNorm(self.dim_head, eps=norm_eps) if qk_norm else none
        self.k_norm = nn.LayerNorm(self.dim_head, eps=norm_eps) if qk_norm else none
        self.rel_positional_embedding = none if grid is None else DecomposedRelativePosition(grid, self.dim_head)
        self.attend = Attend(self.dim_head, dropout_rate, causal, save_attn, use_flash_attention)
        self.out_proj: nn.Module = nn.Linear(self.inner_dim, self.hidden_input_size) if include_fc else none
        self.drop_output = nn.Dropout(dropout_rate)
        self.att_mat = torch.Tensor()
        before_loading(self, self._convert_layout)

    def _check_context(self) -> None:
        if self.context_input_size == self.hidden_input_size:
            return
        if not self.takes_context:
            raise ValueError(
                f"{type(self).__name__} attends to its input of width {self.hidden_input_size}, got context_input_size "
                f"{self.context_input_size}."
            )
        if self.use_combined_linear:
            raise ValueError(
                f"one linear cannot take inputs of width {self.hidden_input_size} and context of width "
                f"{self.context_input_size}: set use_combined_linear to False."
            )

    def _make_projections(self, bias: bool) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
        """Return ``qkv``, ``to_q``, ``to_k`` and ``to_v``."""
        none = nn.Identity()
        if self.context_input_size != self.hidden_input_size:
            to_q = nn.Linear(self.hidden_input_size, self.inner_dim, bias=bias)
            to_k = nn.Linear(self.context_input_size, self.inner_dim, bias=bias)
            to_v = nn.Linear(self.context_input_size, self.inner_dim, bias=bias)
            return none, to_q, to_k, to_v
        # The fused linear is always drawn, and cut up when separate ones are wanted: same seed, same weights.
        fused = nn.Linear(self.hidden_input_size, 3 * self.inner_dim, bias=bias)
        if self.use_combined_linear:
            return fused, none, none, none
        return none, third_of(fused, 0), third_of(fused, 1), third_of(fused, 2)

    def _convert_layout(self, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
        to_layout(state_dict, prefix, self.use_combined_linear)
        # MONAI keeps the causal mask as a buffer; here it follows from the sequence length.
        state_dict.pop(f"{prefix}causal_mask", None)

    @torch.no_grad()
    def init_weights(self, std: float) -> None:
        """Draw all linears anew from a normal distribution cut at two standard deviations, biases zero."""
        projections = [part for part in (self.qkv, self.to_q, self.to_k, self.to_v) if isinstance(part, nn.Linear)]
        if self.context_input_size == self.hidden_input_size:
            fused = torch.empty(3 * self.inner_dim, self.hidden_input_size)
            nn.init.trunc_normal_(fused, std=std, a=-2 * std, b=2 * std)
            for linear, weight in zip(projections, fused.chunk(len(projections), dim=0), strict=True):
                linear.weight.copy_(weight)
        else:
            for linear in projections:
                nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(self.out_proj, nn.Linear):
            nn.init.trunc_normal_(self.out_proj.weight, std=std, a=-2 * std, b=2 * std)
            projections.append(self.out_proj)
        for linear in projections:
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def _project(self, x: Tensor, context: Optional[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries of ``x`` and keys and values of ``context``, or of ``x``, each (B, tokens, inner_dim)."""
        if self.use_combined_linear:
            if context is None:
                q, k, v = self.qkv(x).chunk(3, dim=-1)
            else:
                # Rows of the linear are q | k | v.
                weight, bias = self.qkv.weight, self.qkv.bias
                inner = self.inner_dim
                q = F.linear(x, weight[:inner], None if bias is None else bias[:inner])  # type: ignore[index]
                kv = F.linear(context, weight[inner:], None if bias is None else bias[inner:])  # type: ignore[index]
                k, v = kv.chunk(2, dim=-1)
        else:
            source = x if context is None else context
            q, k, v = self.to_q(x), self.to_k(source), self.to_v(source)
        return q, k, v

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, self.dim_head).transpose(1, 2)  # (B, H, N, D)

    def _attend(
        self,
        x: Tensor,
        context: Optional[Tensor],
        attn_mask: Optional[Tensor],
        rotary: Optional[Tensor],
        context_rotary: Optional[Tensor],
    ) -> Tensor:
        """Let the tokens ``x`` (B, Q, C) attend to ``context`` (B, K, C), or to themselves, and project the result."""
        check_sequence(x, self.hidden_input_size)
        if context is not None:
            check_sequence(context, self.context_input_size, "context")
        queries = x.shape[1]
        keys = queries if context is None else context.shape[1]
        if self.causal and max(queries, keys) > self.sequence_length:
            raise ValueError(
                f"a causal block for {self.sequence_length} tokens was given {queries} queries and {keys} keys."
            )
        q, k, v = self._project(x, context)
        q, k, v = self._split_heads(q), self._split_heads(k), self._split_heads(v)  # (B, H, tokens, D)
        q, k = self.q_norm(q), self.k_norm(k)
        bias: Optional[Tensor] = None
        if self.attention_dtype is not None:
            q, k, v = q.to(self.attention_dtype), k.to(self.attention_dtype), v.to(self.attention_dtype)
        if self.relative:
            if keys != queries:
                raise ValueError(f"relative positions need as many keys as queries, got {keys} and {queries}.")
            bias = self.rel_positional_embedding(q)
        if rotary is not None:
            q = apply_rotary(q, rotary)
        if context_rotary is not None:
            k = apply_rotary(k, context_rotary)
        out = self.attend(q, k, v, attn_mask, bias)  # (B, H, Q, D)
        if self.save_attn:
            self.att_mat = self.attend.att_mat
        out = out.to(x.dtype).transpose(1, 2).reshape(x.shape[0], queries, self.inner_dim)  # (B, Q, H * D)
        projected: Tensor = self.drop_output(self.out_proj(out))
        return projected


class SABlock(AttentionBase):
    """Self-attention over a token sequence; constructor and state-dict keys follow ``monai.networks.blocks.SABlock``.

    Arguments: see ``AttentionBase``. Every combination of them works, and every form gives the same result.
    Differences to MONAI's class are listed in ``docs/attention.md``.
    """

    def forward(self, x: Tensor, attn_mask: Optional[Tensor] = None, rotary: Optional[Tensor] = None) -> Tensor:
        """Attend.

        Args:
            x: tokens, shape (B, N, C).
            attn_mask: keys (B, N), or pairs (N, N), (B, N, N) or (B, H, N, N), query first. Bool or integer: True or
                not 0 = attend. Float: added to the scores. A query that may attend to nothing gets zero.
            rotary: rotation tables of the N positions from ``networks.position.AxialRotary``, shape (2, N, R).

        Returns:
            Tokens, shape (B, N, C), or (B, N, inner_dim) without output projection.

        Raises:
            ValueError: when tokens or mask have another shape, or there are more tokens than the block is made for.
        """
        return self._attend(x, None, attn_mask, rotary, rotary)


def check_heads(hidden_size: int, num_heads: int, dim_head: int | None, dropout_rate: float) -> None:
    """Raise ValueError unless the sizes make whole heads and the dropout is a probability."""
    if not 0 <= dropout_rate <= 1:
        raise ValueError(f"dropout_rate must lie in 0 to 1, got {dropout_rate}.")
    if num_heads < 1:
        raise ValueError(f"num_heads must be at least 1, got {num_heads}.")
    if dim_head is None and hidden_size % num_heads != 0:
        raise ValueError(f"hidden_size {hidden_size} must be divisible by num_heads {num_heads}, or give dim_head.")
    if dim_head is not None and dim_head < 1:
        raise ValueError(f"dim_head must be at least 1, got {dim_head}.")
