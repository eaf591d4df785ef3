"""Multi-head self-attention with interchangeable projection layouts and kernels."""

# No postponed annotations here: TorchScript reads ``Final`` from the class.
from typing import Any, Final, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.position import apply_rotary
from networks.qkv_layout import to_layout


@torch.no_grad()
def third_of(fused: nn.Linear, index: int) -> nn.Linear:
    """Return the linear that computes one third of the outputs of ``fused``, drawing no random number."""
    part = nn.utils.skip_init(nn.Linear, fused.in_features, fused.out_features // 3, bias=fused.bias is not None)
    for target, source in zip(part.parameters(), fused.parameters(), strict=True):
        target.copy_(source.chunk(3, dim=0)[index])
    return part


class SABlock(nn.Module):
    """Self-attention over a token sequence; constructor and state-dict keys follow ``monai.networks.blocks.SABlock``.

    Two flags change how the result is computed and never what it is:

    - ``use_combined_linear``: one ``qkv`` linear, or ``to_q``, ``to_k``, ``to_v``. The branch not used is
      ``nn.Identity`` so that both forms script. A checkpoint of either layout loads into either form, and both
      draw the same initial weights from the same seed.
    - ``use_flash_attention``: ``F.scaled_dot_product_attention``, or softmax(q k^T) v written out. Both are given
      the scale ``dim_head ** -0.5``, and drop attention weights in training only.

    Differences to MONAI's class are listed in ``docs/architecture.md``.

    Args:
        hidden_size: width of the block.
        num_heads: number of heads.
        dropout_rate: probability of dropping an attention weight or an output unit, in training.
        qkv_bias: whether the projections have a bias.
        save_attn: keep the last attention weights, shape (B, H, N, N), in ``att_mat``. They are computed beside the
            fused kernel, so this costs the memory of the eager one.
        dim_head: width of a head; ``hidden_size // num_heads`` when ``None``.
        hidden_input_size: width of the input and output; ``hidden_size`` when ``None``.
        causal: let token i attend to tokens 0 to i only.
        sequence_length: longest sequence, needed when ``causal``.
        rel_pos_embedding: must be ``None``: relative positions enter as rotary tables, see ``forward``.
        input_size: has a meaning for ``rel_pos_embedding`` only.
        attention_dtype: type in which attention runs; that of the input when ``None``.
        include_fc: whether the output projection exists.
        use_combined_linear: fused or separate projections.
        use_flash_attention: fused or eager kernel.

    Raises:
        ValueError: when an argument is out of range or does not fit the others.
    """

    use_combined_linear: Final[bool]
    use_flash_attention: Final[bool]
    include_fc: Final[bool]
    causal: Final[bool]
    save_attn: Final[bool]

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
        rel_pos_embedding: str | None = None,
        input_size: tuple[int, ...] | None = None,
        attention_dtype: torch.dtype | None = None,
        include_fc: bool = True,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= dropout_rate <= 1:
            raise ValueError(f"dropout_rate must lie in 0 to 1, got {dropout_rate}.")
        if num_heads < 1:
            raise ValueError(f"num_heads must be at least 1, got {num_heads}.")
        if dim_head is None and hidden_size % num_heads != 0:
            raise ValueError(f"hidden_size {hidden_size} must be divisible by num_heads {num_heads}, or give dim_head.")
        if causal and sequence_length is None:
            raise ValueError("causal attention needs sequence_length, got None.")
        if rel_pos_embedding is not None:
            raise ValueError(
                f"rel_pos_embedding must be None, got {rel_pos_embedding!r}: pass rotary tables to forward."
            )

        self.num_heads = num_heads
        self.dim_head = dim_head or hidden_size // num_heads
        self.inner_dim = self.num_heads * self.dim_head
        self.hidden_input_size = hidden_input_size or hidden_size
        self.scale = self.dim_head**-0.5
        self.dropout_rate = dropout_rate
        self.causal = causal
        self.sequence_length = sequence_length or 0
        self.save_attn = save_attn
        self.attention_dtype = attention_dtype
        self.include_fc = include_fc
        self.use_combined_linear = use_combined_linear
        self.use_flash_attention = use_flash_attention

        # The fused linear is always drawn, and cut up when separate ones are wanted: same seed, same weights.
        fused = nn.Linear(self.hidden_input_size, 3 * self.inner_dim, bias=qkv_bias)
        self.qkv: nn.Module = fused if use_combined_linear else nn.Identity()
        self.to_q: nn.Module = nn.Identity() if use_combined_linear else third_of(fused, 0)
        self.to_k: nn.Module = nn.Identity() if use_combined_linear else third_of(fused, 1)
        self.to_v: nn.Module = nn.Identity() if use_combined_linear else third_of(fused, 2)
        self.out_proj: nn.Module = nn.Linear(self.inner_dim, self.hidden_input_size) if include_fc else nn.Identity()
        self.drop_output = nn.Dropout(dropout_rate)
        self.drop_weights = nn.Dropout(dropout_rate)
        self.att_mat = torch.Tensor()
        self._register_load_state_dict_pre_hook(self._convert_layout)

    def _convert_layout(self, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
        to_layout(state_dict, prefix, self.use_combined_linear)
        # MONAI keeps the causal mask as a buffer; here it follows from the sequence length.
        state_dict.pop(f"{prefix}causal_mask", None)

    @torch.no_grad()
    def init_weights(self, std: float) -> None:
        """Draw all linears anew from a normal distribution cut at two standard deviations, biases zero."""
        fused = torch.empty(3 * self.inner_dim, self.hidden_input_size)
        nn.init.trunc_normal_(fused, std=std, a=-2 * std, b=2 * std)
        projections = [part for part in (self.qkv, self.to_q, self.to_k, self.to_v) if isinstance(part, nn.Linear)]
        for linear, weight in zip(projections, fused.chunk(len(projections), dim=0), strict=True):
            linear.weight.copy_(weight)
            if linear.bias is not None:
                linear.bias.zero_()
        if isinstance(self.out_proj, nn.Linear):
            nn.init.trunc_normal_(self.out_proj.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(self.out_proj.bias)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, self.dim_head).transpose(1, 2)  # (B, H, N, D)

    def _allowed(self, x: Tensor, attn_mask: Optional[Tensor]) -> Optional[Tensor]:
        """Combine the key mask (B, N) and causality to one mask that broadcasts to (B, H, N, N)."""
        tokens = x.shape[1]
        allowed: Optional[Tensor] = None
        if attn_mask is not None:
            if attn_mask.dim() != 2 or attn_mask.shape[0] != x.shape[0] or attn_mask.shape[1] != tokens:
                raise ValueError(
                    f"attn_mask must have the shape (B, N) = {[x.shape[0], tokens]}, got {attn_mask.shape}."
                )
            allowed = attn_mask.to(torch.bool)[:, None, None, :]  # (B, 1, 1, N)
        if self.causal:
            if tokens > self.sequence_length:
                raise ValueError(f"a causal block for {self.sequence_length} tokens was given {tokens}.")
            past = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).tril()[None, None]
            allowed = past if allowed is None else past & allowed
        return allowed

    def _weights(self, q: Tensor, k: Tensor, allowed: Optional[Tensor]) -> Tensor:
        logits = torch.matmul(q, k.transpose(-2, -1)) * self.scale  # (B, H, N, N)
        if allowed is not None:
            logits = logits.masked_fill(~allowed, float("-inf"))
        return logits.softmax(dim=-1)

    def forward(self, x: Tensor, attn_mask: Optional[Tensor] = None, rotary: Optional[Tensor] = None) -> Tensor:
        """Attend.

        Args:
            x: tokens, shape (B, N, C).
            attn_mask: keys to attend to, shape (B, N), True or 1 = attend. A query without any key gets zero.
            rotary: rotation tables of the N positions from ``networks.position.AxialRotary``, shape (2, N, R).

        Returns:
            Tokens, shape (B, N, C), or (B, N, inner_dim) without output projection.
        """
        if self.use_combined_linear:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
        else:
            q, k, v = self.to_q(x), self.to_k(x), self.to_v(x)
        q, k, v = self._split_heads(q), self._split_heads(k), self._split_heads(v)  # (B, H, N, D)
        if rotary is not None:
            q, k = apply_rotary(q, rotary), apply_rotary(k, rotary)
        if self.attention_dtype is not None:
            q, k, v = q.to(self.attention_dtype), k.to(self.attention_dtype), v.to(self.attention_dtype)

        allowed = self._allowed(x, attn_mask)
        keyless: Optional[Tensor] = None
        if allowed is not None:
            # A query without keys attends to all, lest softmax and its gradient are NaN; its output is zeroed below.
            keyless = ~allowed.any(dim=-1, keepdim=True)
            allowed = allowed | keyless
        if self.save_attn:
            self.att_mat = self._weights(q, k, allowed).detach()
        if self.use_flash_attention:
            dropout_p = self.dropout_rate if self.training else 0.0
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout_p, scale=self.scale)
        else:
            out = torch.matmul(self.drop_weights(self._weights(q, k, allowed)), v)  # (B, H, N, D)
        if keyless is not None:
            out = out.masked_fill(keyless, 0.0)

        out = out.to(x.dtype).transpose(1, 2).reshape(x.shape[0], x.shape[1], self.inner_dim)  # (B, N, H * D)
        return self.drop_output(self.out_proj(out))
