"""Shapes that a module can use, refused in one line where they are others; TorchScript can call these."""

# No postponed annotations here: TorchScript reads them.
from typing import Optional

import torch
from torch import Tensor


def check_sequence(tokens: Tensor, width: int, name: str = "tokens") -> None:
    """Raise ValueError unless tokens have the shape (B, N, width)."""
    if tokens.dim() != 3 or tokens.shape[2] != width:
        raise ValueError(f"{name} must have the shape (B, N, {width}), got {tokens.shape}.")


def check_sequence_or_grid(tokens: Tensor, width: int) -> None:
    """Raise ValueError unless tokens have the shape (B, N, width) or (B, D, H, W, width)."""
    if (tokens.dim() != 3 and tokens.dim() != 5) or tokens.shape[-1] != width:
        raise ValueError(f"tokens must have the shape (B, N, {width}) or (B, D, H, W, {width}), got {tokens.shape}.")


def check_grid(tokens: Tensor, width: int, attn_mask: Optional[Tensor]) -> None:
    """Raise ValueError unless tokens are (B, D, H, W, width) and the mask, if given, a bool tensor (B, D, H, W)."""
    if tokens.dim() != 5 or tokens.shape[4] != width:
        raise ValueError(f"tokens must have the shape (B, D, H, W, {width}), got {tokens.shape}.")
    if attn_mask is not None and (attn_mask.dtype != torch.bool or attn_mask.shape != tokens.shape[:4]):
        shape = tokens.shape[:4]
        raise ValueError(f"attn_mask must be bool of shape {shape}, got {attn_mask.dtype} of {attn_mask.shape}.")
