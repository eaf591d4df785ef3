"""From tokens to one vector, and from that to outputs for a whole scan."""

from __future__ import annotations

from typing import Optional

import torch
from monai.networks.blocks.mlp import MLPBlock
from torch import Tensor, nn

from networks.cross_attention import CrossAttentionBlock

GLOBAL_POOLS = ("", "avg", "avgmax", "max", "token", "map")
AVERAGED_POOLS = ("avg", "avgmax", "max")


class AttentionPool(nn.Module):
    """A learned query attends to all tokens, then an MLP with a residual (Set Transformer, arXiv 1810.00825).

    The formula and the norm's place are those of timm's ``AttentionPoolLatent``.

    Args:
        hidden_size: width C of a token.
        num_heads: number of heads.
        mlp_dim: width of the MLP's hidden layer; 4 * ``hidden_size`` when ``None``.
        dropout_rate: dropout probability in training.
        qkv_bias: whether the projections have a bias.
        use_combined_linear: fused or separate projections; same results.
        use_flash_attention: fused or eager kernel; same results.
        norm_eps: added to the variance by the layer norm.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        mlp_dim: int | None = None,
        dropout_rate: float = 0.0,
        qkv_bias: bool = True,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.empty(1, 1, hidden_size))
        nn.init.trunc_normal_(self.latent, std=hidden_size**-0.5)
        self.attn = CrossAttentionBlock(
            hidden_size,
            num_heads,
            dropout_rate,
            qkv_bias=qkv_bias,
            use_combined_linear=use_combined_linear,
            use_flash_attention=use_flash_attention,
        )
        self.norm = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.mlp = MLPBlock(hidden_size, mlp_dim or 4 * hidden_size, dropout_rate)

    def forward(self, tokens: Tensor, attn_mask: Optional[Tensor] = None) -> Tensor:
        """Pool tokens (B, N, C), those of the mask (B, N) only if given, to vectors (B, C)."""
        pooled: Tensor = self.attn(self.latent.expand(tokens.shape[0], -1, -1), tokens, attn_mask)
        pooled = pooled + self.mlp(self.norm(pooled))
        return pooled[:, 0]


def check_head(num_classes: int, global_pool: str) -> None:
    """Raise ValueError unless both are legal."""
    if global_pool not in GLOBAL_POOLS:
        legal = ", ".join(repr(pool) for pool in GLOBAL_POOLS)
        raise ValueError(f"global_pool must be one of {legal}, got {global_pool!r}.")
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 0:
        raise ValueError(f"num_classes must be an integer of at least 0, got {num_classes!r}.")


class PooledHead(nn.Module):
    """Global pool, its norm and a linear; what the chosen pool does not need is ``nn.Identity``.

    | global_pool | vector | norm |
    |-------------|--------|------|
    | ``""``      | none: each token goes through the linear | no |
    | ``avg``, ``max``, ``avgmax`` | mean, largest, or half the sum of both, over the patch tokens | after the pool |
    | ``token``   | the first token | no |
    | ``map``     | ``AttentionPool`` of the patch tokens | inside the pool |

    Args:
        hidden_size: width C of a token.
        num_classes: number of outputs; 0 for the pooled vector itself.
        global_pool: one of the table.
        num_heads: heads of the attention pool.
        use_combined_linear: see ``AttentionPool``.
        use_flash_attention: see ``AttentionPool``.
        norm_eps: added to the variance by the layer norms.

    Raises:
        ValueError: when ``num_classes`` or ``global_pool`` is not legal.
    """

    def __init__(
        self,
        hidden_size: int,
        num_classes: int,
        global_pool: str,
        num_heads: int,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_head(num_classes, global_pool)
        self.hidden_size = hidden_size
        self.num_heads = num_heads
        self.use_combined_linear = use_combined_linear
        self.use_flash_attention = use_flash_attention
        self.norm_eps = norm_eps
        self.num_classes = num_classes
        self.global_pool = global_pool
        self.attn_pool: nn.Module = nn.Identity()
        self.norm: nn.Module = nn.Identity()
        self.linear: nn.Module = nn.Identity()
        self._set_pool(global_pool)
        self._set_linear(num_classes)

    def _set_pool(self, global_pool: str) -> None:
        """Make the pool and the norm that ``global_pool`` needs, and keep those there are."""
        if global_pool != "map":
            self.attn_pool = nn.Identity()
        elif not isinstance(self.attn_pool, AttentionPool):
            self.attn_pool = AttentionPool(
                self.hidden_size,
                self.num_heads,
                use_combined_linear=self.use_combined_linear,
                use_flash_attention=self.use_flash_attention,
                norm_eps=self.norm_eps,
            )
        if global_pool not in AVERAGED_POOLS:
            self.norm = nn.Identity()
        elif not isinstance(self.norm, nn.LayerNorm):
            self.norm = nn.LayerNorm(self.hidden_size, eps=self.norm_eps)
        self.global_pool = global_pool

    def _set_linear(self, num_classes: int) -> None:
        self.linear = nn.Identity()
        if num_classes > 0:
            self.linear = nn.Linear(self.hidden_size, num_classes)
            nn.init.trunc_normal_(self.linear.weight, std=0.02)
            nn.init.zeros_(self.linear.bias)
        self.num_classes = num_classes

    def reset(self, num_classes: int, global_pool: str | None = None, like: Tensor | None = None) -> None:
        """Draw a new linear, and change the pool as if the head had been built with it.

        An attention pool or norm that the new pool needs too keeps its weights.

        Args:
            num_classes: number of outputs; 0 for the pooled vector itself.
            global_pool: one of ``GLOBAL_POOLS``; the present one when ``None``.
            like: gives device and type of the new parameters when the head has none to go by.

        Raises:
            ValueError: when an argument is not legal; nothing is changed then.
        """
        global_pool = self.global_pool if global_pool is None else global_pool
        check_head(num_classes, global_pool)
        place = next(self.parameters(), torch.empty(0) if like is None else like)
        self._set_pool(global_pool)
        self._set_linear(num_classes)
        self.to(place.device, place.dtype).train(self.training)

    def pool(self, tokens: Tensor, prefix: int) -> Tensor:
        """Pool tokens (B, prefix + N, C), the first ``prefix`` of which are no patches, to vectors (B, C)."""
        patches = tokens[:, prefix:]
        if self.global_pool == "avg":
            return patches.mean(dim=1)
        if self.global_pool == "max":
            return patches.amax(dim=1)
        if self.global_pool == "avgmax":
            return (patches.mean(dim=1) + patches.amax(dim=1)) / 2
        if self.global_pool == "map":
            pooled: Tensor = self.attn_pool(patches)
            return pooled
        if self.global_pool == "token":
            return tokens[:, 0]
        return tokens

    def forward(self, tokens: Tensor, prefix: int = 0) -> Tensor:
        """Map tokens (B, prefix + N, C) to outputs (B, num_classes), or (B, prefix + N, num_classes) without a pool."""
        outputs: Tensor = self.linear(self.norm(self.pool(tokens, prefix)))
        return outputs
