"""The attention kernel that every attention module shares: one scale, one meaning of a mask, fused or eager."""

# No postponed annotations here: TorchScript reads ``Final`` from the class.
from typing import Final, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def broadcast_mask(attn_mask: Tensor, batch: int, heads: int, queries: int, keys: int) -> Tensor:
    """Return a mask as a bool or float tensor of 4 dimensions that broadcasts to (B, H, Q, K).

    Args:
        attn_mask: (B, K), (Q, K), (B, Q, K) or (B, H, Q, K); in the last two, a size of 1 stands for all. Bool or
            integer: True or not 0 = attend. Float: added to the scaled scores, ``-inf`` = do not attend.
        batch: B; a mask that could be (B, K) as well as (Q, K) is read as (B, K).
        heads: H.
        queries: Q.
        keys: K.

    Raises:
        ValueError: when the shape is none of these, or when a float mask (B, K) holds nothing but 0 and 1.
    """
    shape = attn_mask.shape
    if attn_mask.dim() == 2 and shape[0] == batch and shape[1] == keys:
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            refuse_ambiguous(attn_mask)
        mask = attn_mask[:, None, None, :]
    elif attn_mask.dim() == 2:
        mask = attn_mask[None, None]
    elif attn_mask.dim() == 3:
        mask = attn_mask[:, None]
    else:
        mask = attn_mask
    fits = mask.dim() == 4 and mask.shape[3] == keys
    if fits:
        fits = (
            (mask.shape[0] == 1 or mask.shape[0] == batch)
            and (mask.shape[1] == 1 or mask.shape[1] == heads)
            and (mask.shape[2] == 1 or mask.shape[2] == queries)
        )
    if not fits or (attn_mask.dim() == 2 and shape[0] != batch and shape[0] != queries):
        raise ValueError(
            f"attn_mask must have the shape (B, K), (Q, K), (B, Q, K) or (B, H, Q, K) "
            f"with B, H, Q, K = {[batch, heads, queries, keys]}, got {shape}."
        )
    if mask.dtype != torch.bool and not mask.is_floating_point():
        mask = mask != 0
    return mask


@torch.jit.unused
def refuse_ambiguous(attn_mask: Tensor) -> None:
    """Refuse a float key mask of zeros and ones: MONAI would keep the ones, adding them would change nothing."""
    kept = attn_mask == 1
    if attn_mask.is_floating_point() and bool(kept.any()) and bool((kept | (attn_mask == 0)).all()):
        raise ValueError("a float attn_mask is added to the scores, and this one holds 0 and 1: give it as bool.")


class Attend(nn.Module):
    """``softmax(q k^T dim_head^-0.5 + mask) v``, by ``F.scaled_dot_product_attention`` or written out.

    Both forms get the same scale (timm issue #2385), the same mask, drop attention weights in training only, and give
    zero, with a zero gradient, for a query that may attend to no key. The fused form never holds the (Q, K) weights
    unless a mask or bias of that shape is given or they are to be saved, so its memory is linear in the tokens.

    Args:
        dim_head: width D of a head, for the scale.
        dropout_rate: probability of dropping an attention weight, in training.
        causal: let query i attend to keys 0 to i only.
        save_attn: keep the last attention weights in ``att_mat``, shape (B, H, Q, K).
        use_flash_attention: fused or eager.
    """

    use_flash_attention: Final[bool]
    causal: Final[bool]
    save_attn: Final[bool]

    def __init__(
        self,
        dim_head: int,
        dropout_rate: float = 0.0,
        causal: bool = False,
        save_attn: bool = False,
        use_flash_attention: bool = True,
    ) -> None:
        super().__init__()
        self.scale = dim_head**-0.5
        self.dropout_rate = dropout_rate
        self.causal = causal
        self.save_attn = save_attn
        self.use_flash_attention = use_flash_attention
        self.drop_weights = nn.Dropout(dropout_rate)
        self.att_mat = torch.Tensor()

    def _weights(self, q: Tensor, k: Tensor, mask: Optional[Tensor]) -> Tensor:
        """Return softmax of the masked scores, shape (B, H, Q, K)."""
        scores = torch.matmul(q * self.scale, k.transpose(-2, -1))
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
        return scores.softmax(dim=-1)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Optional[Tensor] = None, bias: Optional[Tensor] = None
    ) -> Tensor:
        """Attend.

        Args:
            q: queries, shape (B, H, Q, D).
            k: keys, shape (B, H, K, D).
            v: values, shape (B, H, K, D).
            attn_mask: which keys a query attends to, or what is added to its scores; see ``broadcast_mask``.
            bias: added to the scores, shape (B, H, Q, K).

        Returns:
            Tensor of shape (B, H, Q, D).
        """
        queries, keys = q.shape[2], k.shape[2]
        allowed: Optional[Tensor] = None  # bool, True = attend
        keyless: Optional[Tensor] = None  # bool, queries that may attend to nothing
        added = bias  # float
        if attn_mask is not None:
            mask = broadcast_mask(attn_mask, q.shape[0], q.shape[1], queries, keys)
            allowed = mask if mask.dtype == torch.bool else mask != float("-inf")
            if mask.dtype != torch.bool:
                finite = mask.to(q.dtype).masked_fill(~allowed, 0.0)
                added = finite if added is None else added + finite
        # The kernel knows causality by itself; it is written out where weights or another mask need it.
        by_kernel = self.use_flash_attention and not self.save_attn and allowed is None and added is None
        if self.causal and not by_kernel:
            past = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril()[None, None]
            allowed = past if allowed is None else past & allowed
        if attn_mask is not None and allowed is not None:
            # Such a query attends to all, lest softmax and its gradient are NaN; its output is zeroed below.
            keyless = ~allowed.any(dim=-1, keepdim=True)
            allowed = allowed | keyless
        total = allowed
        if added is not None:
            total = added if allowed is None else added.masked_fill(~allowed, float("-inf"))

        if self.save_attn:
            saved = self._weights(q, k, total).detach()
            self.att_mat = saved if keyless is None else saved.masked_fill(keyless, 0.0)
        if self.use_flash_attention:
            out = F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=total,
                dropout_p=self.dropout_rate if self.training else 0.0,
                is_causal=self.causal and by_kernel,
                scale=self.scale,
            )
        else:
            out = torch.matmul(self.drop_weights(self._weights(q, k, total)), v)
        return out if keyless is None else out.masked_fill(keyless, 0.0)
