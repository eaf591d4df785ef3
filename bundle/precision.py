"""Which numbers a network computes in: float32, or bfloat16 where the hardware has it."""

from __future__ import annotations

import torch

PRECISIONS = ("float32", "bfloat16", "auto")


def use_bfloat16(precision: str, device: torch.device | str) -> bool:
    """Tell whether to compute in bfloat16.

    ``"auto"`` does so where the hardware computes in it: on a GPU from NVIDIA's Ampere on, on a processor with
    AVX-512 BF16 (those with AMX have it too). Other processors only emulate it, which is slower than float32.

    Raises:
        ValueError: for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: found {precision!r}; one of {', '.join(PRECISIONS)} is wanted.")
    if precision != "auto":
        return precision == "bfloat16"
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.device(device).type == "cpu" and torch.cpu._is_avx512_bf16_supported()
