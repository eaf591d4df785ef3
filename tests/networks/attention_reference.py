"""Attention from its formula in float64, one head and one query at a time: what every form is compared with."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

from networks import combine_qkv


def double_parameters(block: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of a block as float64 leaves, in the combined layout."""
    state = combine_qkv({name: value.detach().double() for name, value in block.named_parameters()})
    return {name: value.clone().requires_grad_() for name, value in state.items()}


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Rotate pairs as complex numbers; x is (B, N, H, D)."""
    pairs = rotary.shape[-1]
    turn = torch.complex(rotary[0], rotary[1])[None, :, None, :]
    turned = torch.complex(x[..., :pairs], x[..., pairs : 2 * pairs]) * turn
    return torch.cat([turned.real, turned.imag, x[..., 2 * pairs :]], dim=-1)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise the last axis to mean 0 and variance 1, then scale and shift."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def scores_of_query(q: Tensor, keys: Tensor, place: int, tables: list[Tensor], size: tuple[int, ...]) -> Tensor:
    """Return the relative position scores of one query (D) against all places of the grid."""
    grid = list(product(*(range(n) for n in size)))
    assert len(grid) == len(keys)
    scores = torch.zeros(len(keys), dtype=q.dtype)
    for axis, table in enumerate(tables):
        offsets = [grid[place][axis] - other[axis] + size[axis] - 1 for other in grid]
        scores = scores + table[offsets] @ q
    return scores


def mask_row(mask: Tensor, batch: int, b: int, h: int, n: int) -> Tensor:
    """Return the mask's entries for one query."""
    if mask.dim() == 2:
        return mask[b] if mask.shape[0] == batch else mask[n]
    return mask[b, n] if mask.dim() == 3 else mask[b, h, n]


def reference(
    block: nn.Module,
    parameters: dict[str, Tensor],
    x: Tensor,
    mask: Tensor | None = None,
    rotary: Tensor | None = None,
    size: tuple[int, ...] | None = None,
) -> Tensor:
    """Self-attention of ``x`` (B, N, C), float64; ``size`` is the grid of the relative positions."""
    heads, dim, (batch, count, _) = block.num_heads, block.dim_head, x.shape
    projected = x @ parameters["qkv.weight"].T + parameters.get("qkv.bias", torch.zeros(1, dtype=x.dtype))
    q, k, v = (part.reshape(batch, count, heads, dim) for part in projected.chunk(3, dim=-1))
    if "q_norm.weight" in parameters:
        q = layer_norm(q, parameters["q_norm.weight"], parameters["q_norm.bias"])
        k = layer_norm(k, parameters["k_norm.weight"], parameters["k_norm.bias"])
    unrotated = q
    if rotary is not None:
        q, k = rotate(q, rotary.to(x.dtype)), rotate(k, rotary.to(x.dtype))
    tables = [value for name, value in parameters.items() if name.startswith("rel_positional_embedding")]
    rows = []
    for b, n, h in product(range(batch), range(count), range(heads)):
        scores = (k[b, :, h] @ q[b, n, h]) / dim**0.5
        if size is not None:
            scores = scores + scores_of_query(unrotated[b, n, h], k[b, :, h], n, tables, size)
        allowed = torch.ones(count, dtype=torch.bool)
        if mask is not None:
            row = mask_row(mask, batch, b, h, n)
            if row.is_floating_point():
                allowed = row > -torch.inf
                scores = scores + row.to(x.dtype)
            else:
                allowed = row != 0
        if block.causal:
            allowed = allowed & (torch.arange(count) <= n)
        if allowed.any():
            rows.append(torch.softmax(scores[allowed], dim=0) @ v[b, allowed, h])
        else:
            rows.append(torch.zeros(dim, dtype=x.dtype))
    out = torch.stack(rows).reshape(batch, count, heads * dim)
    if block.include_fc:
        out = out @ parameters["out_proj.weight"].T + parameters["out_proj.bias"]
    return out
