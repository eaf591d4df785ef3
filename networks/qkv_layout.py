"""The two layouts of query, key and value projections: one fused ``qkv`` linear, or ``to_q``, ``to_k`` and ``to_v``.

The rows of ``qkv`` are q | k | v, each head-major, so ``chunk(3, 0)`` and ``cat`` convert exactly
(MONAI issues #7991 and #7992).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

SEPARATE_NAMES = ("to_q", "to_k", "to_v")
KINDS = ("weight", "bias")
PROJECTION = re.compile(r"((?:.*\.)?)(?:qkv|to_q|to_k|to_v)\.(?:weight|bias)")


@torch.no_grad()
def third_of(fused: nn.Linear | nn.Conv2d | nn.Conv3d, index: int) -> nn.Module:
    """Return the module that computes one third of the outputs of ``fused``, drawing no random number."""
    bias = fused.bias is not None
    part: nn.Module
    if isinstance(fused, nn.Linear):
        part = nn.Linear(fused.in_features, fused.out_features // 3, bias=bias, device="meta")
    else:
        kernel_size: Any = fused.kernel_size  # which PyTorch declares wider than its constructors take
        part = type(fused)(fused.in_channels, fused.out_channels // 3, kernel_size, bias=bias, device="meta")
    part.to_empty(device=fused.weight.device)
    for target, source in zip(part.parameters(), fused.parameters(), strict=True):
        target.copy_(source.chunk(3, dim=0)[index])
    return part


def _fuse(state_dict: dict[str, Tensor], prefix: str) -> None:
    """Replace ``<prefix>to_q/to_k/to_v`` by ``<prefix>qkv``, in place, unless their input widths differ."""
    weights = [state_dict[key] for name in SEPARATE_NAMES if (key := f"{prefix}{name}.weight") in state_dict]
    if len({weight.shape[1:] for weight in weights}) > 1:
        return
    for kind in KINDS:
        keys = [f"{prefix}{name}.{kind}" for name in SEPARATE_NAMES]
        if all(key in state_dict for key in keys):
            state_dict[f"{prefix}qkv.{kind}"] = torch.cat([state_dict.pop(key) for key in keys])


def _split(state_dict: dict[str, Tensor], prefix: str) -> None:
    """Replace ``<prefix>qkv`` by ``<prefix>to_q/to_k/to_v``, in place."""
    for kind in KINDS:
        key = f"{prefix}qkv.{kind}"
        if key in state_dict:
            chunks = state_dict.pop(key).chunk(3, dim=0)
            state_dict.update(
                {f"{prefix}{name}.{kind}": chunk for name, chunk in zip(SEPARATE_NAMES, chunks, strict=True)}
            )


def to_layout(state_dict: dict[str, Tensor], prefix: str, combined: bool) -> None:
    """Bring the projections of the one attention block at ``prefix`` into the wanted layout, in place.

    Made for load hooks: what is incomplete is left as it is, and ``load_state_dict`` says what is missing.
    """
    if combined:
        _fuse(state_dict, prefix)
    else:
        _split(state_dict, prefix)


def _fault(state_dict: Mapping[str, Tensor], prefix: str) -> str | None:
    """Return what is wrong with the projections at ``prefix``, or ``None``."""
    fused = [key for kind in KINDS if (key := f"{prefix}qkv.{kind}") in state_dict]
    separate = {kind: [f"{prefix}{name}.{kind}" for name in SEPARATE_NAMES] for kind in KINDS}
    found = [key for keys in separate.values() for key in keys if key in state_dict]
    if fused and found:
        return f"{', '.join(fused + found)} are both layouts at once"
    has_bias = any(key in state_dict for key in [f"{prefix}qkv.bias", *separate["bias"]])
    wanted = [f"{prefix}qkv.weight"] if fused else separate["weight"] + (separate["bias"] if has_bias else [])
    present = fused + found
    missing = [key for key in wanted if key not in state_dict]
    if missing:
        return f"{', '.join(present)} lack {', '.join(missing)}"
    rows = {state_dict[key].shape[:1] for key in present}
    shapes = ", ".join(f"{key} {tuple(state_dict[key].shape)}" for key in present)
    if len(rows) > 1:
        return f"{shapes} do not have the same number of rows"
    if () in rows or (fused and state_dict[wanted[0]].shape[0] % 3 != 0):
        return f"{shapes} cannot be cut into three equal parts"
    return None


def qkv_layouts(state_dict: Mapping[str, Tensor]) -> dict[str, bool]:
    """Return for each prefix with query, key and value projections whether they are combined.

    Raises:
        ValueError: listing the keys, when a triple is incomplete, both layouts stand at one prefix, the rows of a
            ``qkv`` are not divisible by 3, or the parts of one block differ in rows.
    """
    prefixes = dict.fromkeys(match[1] for key in state_dict if (match := PROJECTION.fullmatch(key)))
    faults = [fault for prefix in prefixes if (fault := _fault(state_dict, prefix)) is not None]
    if faults:
        raise ValueError(f"query, key and value projections of one layout are wanted: {'; '.join(faults)}.")
    return {prefix: f"{prefix}qkv.weight" in state_dict for prefix in prefixes}


def combine_qkv(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of ``state_dict`` in which every ``to_q/to_k/to_v`` triple is one ``qkv`` linear or convolution.

    A triple whose input widths differ (cross-attention to a context of another width) has no such form and is left
    as it is.

    Raises:
        ValueError: see ``qkv_layouts``.
    """
    result = dict(state_dict)
    for prefix in qkv_layouts(state_dict):
        to_layout(result, prefix, combined=True)
    return result


def separate_qkv(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of ``state_dict`` in which every ``qkv`` linear or convolution is a ``to_q/to_k/to_v`` triple.

    Raises:
        ValueError: see ``qkv_layouts``.
    """
    result = dict(state_dict)
    for prefix in qkv_layouts(state_dict):
        to_layout(result, prefix, combined=False)
    return result
