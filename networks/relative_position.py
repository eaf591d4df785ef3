"""Relative positions as a bias of the attention scores, one table an axis (MViTv2, arXiv 2112.01526)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from networks.spelling import one_of

RelativePosition = str | tuple[str, dict[str, Any]]
"""``"decomposed"``, or that and ``{"s_input_dims": input_size}``, as MONAI's layers are named."""


class DecomposedRelativePosition(nn.Module):
    """Bias ``q_i . (R0[offset along axis 0] + R1[...] + R2[...])`` on a 2D or 3D grid of tokens, last axis fastest.

    State-dict keys follow ``monai.networks.blocks.rel_pos_embedding.DecomposedRelativePosEmbedding``, whose third axis
    fails unless it is as long as the second.

    Args:
        input_size: tokens along each axis, 2 or 3 numbers.
        dim_head: width of a head.

    Raises:
        ValueError: when ``input_size`` does not have 2 or 3 positive entries.
    """

    def __init__(self, input_size: Sequence[int], dim_head: int) -> None:
        super().__init__()
        if len(input_size) not in (2, 3) or min(input_size) < 1:
            raise ValueError(f"input_size must have 2 or 3 positive entries, got {list(input_size)}.")
        self.size = [int(input_size[0]), int(input_size[1]), int(input_size[2]) if len(input_size) == 3 else 1]
        self.tokens = self.size[0] * self.size[1] * self.size[2]
        self.rel_pos_arr = nn.ParameterList([nn.Parameter(torch.zeros(2 * n - 1, dim_head)) for n in input_size])

    def forward(self, q: Tensor) -> Tensor:
        """Return the bias (B, H, N, N) for queries (B, H, N, D).

        Raises:
            ValueError: when N is not the number of tokens of the grid.
        """
        batch, heads, tokens, dim_head = q.shape
        if tokens != self.tokens:
            raise ValueError(f"relative positions for {self.tokens} tokens {self.size} were given {tokens}.")
        grid = q.reshape(batch * heads, self.size[0], self.size[1], self.size[2], dim_head)
        bias = torch.zeros(1, dtype=q.dtype, device=q.device)
        for axis, table in enumerate(self.rel_pos_arr):
            length = self.size[axis]
            steps = torch.arange(length, device=q.device)
            # Row i, column j: the vector of the offset i - j, shape (L, L, D).
            vectors = table[steps[:, None] - steps[None, :] + length - 1].to(q.dtype)
            moved = grid.movedim(axis + 1, 1)  # (B * H, L, other, other, D)
            scores = torch.matmul(moved.flatten(2, 3), vectors.transpose(1, 2))  # (B * H, L, other * other, L)
            scores = torch.unflatten(scores, 2, moved.shape[2:4]).movedim(1, axis + 1)  # (B * H, *size, L)
            key_axes = [1, 1, 1]
            key_axes[axis] = length
            bias = bias + scores.reshape(list(scores.shape[:4]) + key_axes)
        return bias.reshape(batch, heads, tokens, tokens)


def relative_size(rel_pos_embedding: RelativePosition | None, input_size: Sequence[int] | None) -> Sequence[int] | None:
    """Return the tokens along each axis for which relative positions are wanted, ``None`` for no such positions.

    Raises:
        ValueError: when there is no embedding of that name, or nothing says for how many tokens.
    """
    if rel_pos_embedding is None:
        return None
    name, options = (rel_pos_embedding, {}) if isinstance(rel_pos_embedding, str) else rel_pos_embedding
    one_of("rel_pos_embedding", name, ("decomposed",))
    if not set(options) <= {"s_input_dims"}:
        raise ValueError(f"rel_pos_embedding takes s_input_dims alone, got {', '.join(map(str, options))}.")
    size: Sequence[int] | None = options.get("s_input_dims", input_size)
    if size is None:
        raise ValueError("rel_pos_embedding needs input_size, got None.")
    return size
