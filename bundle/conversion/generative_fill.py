"""What GenerativeModels, MONAI and this bundle keep beside what the others keep: buffers, norms, projections."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from bundle.conversion.state import State

KINDS = ("weight", "bias")
PROJECTIONS = re.compile(r"((?:.*\.)?)(qkv|to_q|to_k|to_v)\.(weight|bias)")
CAUSAL_MASK = re.compile(r"((?:.*\.)?)causal_mask")
DECODER_MASK = re.compile(r"((?:.*\.)?)blocks\.\d+\.attn\.")


def generative_blocks(keys: Iterable[str]) -> list[str]:
    """Return the prefixes of ``TransformerBlock``s as GenerativeModels names them, with a ``norm3``."""
    keys = set(keys)
    return [
        prefix
        for key in sorted(keys)
        if key.endswith("norm3.weight")
        for prefix in [key.removesuffix("norm3.weight")]
        if f"{prefix}mlp.linear1.weight" in keys
    ]


def keep_buffers(result: State, source: Mapping[str, Tensor], notes: list[str]) -> State:
    """Add what MONAI and GenerativeModels both keep and this bundle does not, on the way from one to the other.

    That is ``causal_mask`` and, for MONAI, ``norm_cross_attn`` of ``TransformerBlock``s without cross-attention.
    """
    attentions = {match[1] for key in result if (match := PROJECTIONS.fullmatch(key))}
    added: State = {}
    for key, value in source.items():
        if key not in result and (match := CAUSAL_MASK.fullmatch(key)) and match[1] in attentions:
            added[key] = value
    for block in generative_blocks(source):
        if f"{block}norm_cross_attn.weight" not in result and f"{block}norm2.weight" in result:
            norm = result[f"{block}norm2.weight"]
            added |= {f"{block}norm_cross_attn.weight": torch.ones_like(norm)}
            added |= {f"{block}norm_cross_attn.bias": torch.zeros_like(norm)}
    if added:
        notes.append(f"kept or filled {', '.join(added)}")
    return result | added


def settle_projections(result: State, spatial: set[str], wanted: Mapping[str, Tensor], notes: list[str]) -> None:
    """Leave out, fill in or tell of the output projections that GenerativeModels does not apply, in place."""
    present = [
        key for prefix in sorted(spatial) for kind in KINDS if (key := f"{prefix}attn.out_proj.{kind}") in result
    ]
    if wanted:
        dropped = [key for key in present if key not in wanted]
        for key in dropped:
            del result[key]
        if dropped:
            theirs = ", ".join(key.replace("attn.out_proj.", "proj_attn.") for key in dropped)
            notes.append(f"dropped {theirs}, which GenerativeModels did not apply")
        filled: State = {}
        for prefix in sorted(spatial):
            if f"{prefix}attn.out_proj.weight" in wanted and f"{prefix}attn.out_proj.weight" not in result:
                filled |= _identity(f"{prefix}attn.out_proj", wanted[f"{prefix}attn.out_proj.weight"])
        result |= filled
        notes += [f"filled {', '.join(filled)}"] if filled else []
    applied = [key for key in present if key in result and key.endswith("weight")]
    if applied:
        notes.append(
            f"kept {', '.join(applied)}, which GenerativeModels did not apply: "
            "for its outputs give a network with include_fc=False"
        )


def _identity(name: str, like: Tensor) -> State:
    return {
        f"{name}.weight": torch.eye(like.shape[0], dtype=like.dtype, device=like.device),
        f"{name}.bias": torch.zeros_like(like[:, 0]),
    }


def identities(result: State, spatial: set[str]) -> State:
    """Return an identity for each ``proj_attn`` that is missing, in GenerativeModels' names."""
    filled: State = {}
    for prefix in sorted(spatial):
        if f"{prefix}proj_attn.weight" not in result:
            filled |= _identity(f"{prefix}proj_attn", result[f"{prefix}norm.weight"][:, None])
    return filled


def masks(result: State, wanted: Mapping[str, Tensor]) -> State:
    """Return the causal masks that are missing, from the network or from the table of positions."""
    filled = {
        key: torch.ones_like(value).tril()
        for key, value in wanted.items()
        if CAUSAL_MASK.fullmatch(key) and key not in result
    }
    for key in result:
        match = DECODER_MASK.match(key)
        table = result.get(f"{match[1]}position_embeddings.embedding.weight") if match else None
        if match and table is not None and (mask := f"{match[0]}causal_mask") not in result:
            filled[mask] = torch.ones(1, 1, len(table), len(table), device=table.device).tril()
    return filled
