"""The two layouts of query, key and value projections: one fused ``qkv`` linear, or ``to_q``, ``to_k`` and ``to_v``.

The rows of ``qkv`` are q | k | v, each head-major, so ``chunk(3, 0)`` and ``cat`` convert exactly
(MONAI issues #7991 and #7992).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SEPARATE_NAMES = ("to_q", "to_k", "to_v")


@torch.no_grad()
def third_of(fused: nn.Linear | nn.Conv2d | nn.Conv3d, index: int) -> nn.Module:
    """Return the module that computes one third of the outputs of ``fused``, drawing no random number."""
    bias = fused.bias is not None
    part: nn.Module
    if isinstance(fused, nn.Linear):
        part = nn.utils.skip_init(nn.Linear, fused.in_features, fused.out_features // 3, bias=bias)
    else:
        sizes = (fused.in_channels, fused.out_channels // 3, fused.kernel_size)
        part = nn.utils.skip_init(type(fused), *sizes, bias=bias)
    for target, source in zip(part.parameters(), fused.parameters(), strict=True):
        target.copy_(source.chunk(3, dim=0)[index])
    return part


def _fuse(state_dict: dict[str, Tensor], prefix: str) -> None:
    """Replace ``<prefix>to_q/to_k/to_v`` by ``<prefix>qkv``, in place."""
    for kind in ("weight", "bias"):
        keys = [f"{prefix}{name}.{kind}" for name in SEPARATE_NAMES]
        if all(key in state_dict for key in keys):
            state_dict[f"{prefix}qkv.{kind}"] = torch.cat([state_dict.pop(key) for key in keys])


def _split(state_dict: dict[str, Tensor], prefix: str) -> None:
    """Replace ``<prefix>qkv`` by ``<prefix>to_q/to_k/to_v``, in place."""
    for kind in ("weight", "bias"):
        key = f"{prefix}qkv.{kind}"
        if key in state_dict:
            chunks = state_dict.pop(key).chunk(3, dim=0)
            state_dict.update(
                {f"{prefix}{name}.{kind}": chunk for name, chunk in zip(SEPARATE_NAMES, chunks, strict=True)}
            )


def to_layout(state_dict: dict[str, Tensor], prefix: str, combined: bool) -> None:
    """Bring the projections of the one attention block at ``prefix`` into the wanted layout, in place."""
    if combined:
        _fuse(state_dict, prefix)
    else:
        _split(state_dict, prefix)


def combine_qkv(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of ``state_dict`` in which every ``to_q/to_k/to_v`` triple is one ``qkv`` linear."""
    result = dict(state_dict)
    for key in state_dict:
        if key.endswith("to_q.weight"):
            _fuse(result, key[: -len("to_q.weight")])
    return result


def separate_qkv(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of ``state_dict`` in which every ``qkv`` linear is a ``to_q/to_k/to_v`` triple."""
    result = dict(state_dict)
    for key in state_dict:
        if key.endswith("qkv.weight"):
            _split(result, key[: -len("qkv.weight")])
    return result
