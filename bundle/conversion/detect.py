"""Tell from the keys of a checkpoint which code wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bundle.conversion.generative_fill import generative_blocks
from bundle.conversion.generative_keys import marks_of_generative
from bundle.conversion.monai_keys import unused_cross_norms
from bundle.conversion.state import SUBJECT
from bundle.errors import ConversionError

ATTENTION = re.compile(r"(^|\.)(qkv|to_q|to_k|to_v)\.(weight|bias)$")
# Keys that no other family has.
MARKS = {
    "timm": re.compile(
        r"(^|\.)(patch_embed\.proj\.|pos_embed$|blocks\.\d+\.(attn\.proj|mlp\.fc[12])\.|attn_pool\.(q|kv|proj)\.)"
    ),
    "monai": re.compile(r"(^|\.)(causal_mask$|classification_head\.)"),
    "bundle": re.compile(r"(^|\.)(head\.(linear|attn_pool\.attn)|(local|global)_branch)\."),
}
TIMM_ATTENTION = re.compile(r"(^|.*\.)(qkv|proj)\.weight$")
# Keys that MONAI's networks and this bundle's share, with the same meaning.
SHARED = re.compile(r"(^|\.)(out_proj\.|mlp\.linear[12]\.|patch_embedding\.)")
ATTENTION_ONLY = re.compile(r"(^|\.)(qkv|to_[qkv]|[qk]_norm)\.(weight|bias)$")


def detect_family(state: Iterable[str]) -> str:
    """Return ``"bundle"``, ``"monai"``, ``"generative"`` or ``"timm"`` for a state dict or its keys.

    Keys that MONAI and this bundle share, with nothing of MONAI's own among them, are ``"bundle"``: they mean the same.

    Raises:
        ConversionError: when no key belongs to attention, or the keys belong to more than one family, or to none.
    """
    keys = list(state)
    if not any(ATTENTION.search(key) for key in keys):
        raise ConversionError(SUBJECT, "no attention found", "keys that end in qkv, to_q, to_k or to_v are wanted")
    blocks = tuple(f"{block}{part}." for block in generative_blocks(keys) for part in ("attn", "cross_attn", "mlp"))
    telling = [key for key in keys if not key.startswith(blocks)]  # in those, names of other families mean no other
    examples = {"generative": next(iter(marks_of_generative(keys)), None)}  # family: one of its keys
    examples |= {family: next((key for key in telling if mark.search(key)), None) for family, mark in MARKS.items()}
    if examples["timm"] is None:
        examples["timm"] = next(iter(_attention_of_timm(keys)), None)
    if examples["monai"] is None:
        examples["monai"] = next(iter(unused_cross_norms(keys) + _cross_attention_of_vit(keys)), None)
    if examples["monai"] is None and examples["bundle"] is None:
        examples["bundle"] = next((key for key in telling if SHARED.search(key)), None)
    found = {family: key for family, key in examples.items() if key is not None}
    if len(found) > 1:
        listed = ", ".join(f"{family} ({key})" for family, key in found.items())
        raise ConversionError(SUBJECT, f"the keys belong to more than one family: {listed}")
    if not found and not all(ATTENTION_ONLY.search(key) for key in keys):
        listed = ", ".join(key for key in keys if not ATTENTION_ONLY.search(key))
        raise ConversionError(SUBJECT, f"attention of no known family, beside {listed}", "name the family by --from")
    return next(iter(found), "bundle")


def _attention_of_timm(keys: list[str]) -> list[str]:
    """Return the keys ``proj.weight`` beside a ``qkv.weight``: timm's attention on its own."""
    names = {key: match[1] for key in keys if (match := TIMM_ATTENTION.match(key))}
    fused = {prefix for key, prefix in names.items() if key.endswith("qkv.weight")}
    return [key for key, prefix in names.items() if key.endswith("proj.weight") and prefix in fused]


def _cross_attention_of_vit(keys: list[str]) -> list[str]:
    """Return the keys of cross-attention in a vision transformer, which only MONAI's older ones have."""
    roots = {key.split("patch_embedding.")[0] for key in keys if "patch_embedding." in key}
    pattern = re.compile(r"(.*?)blocks\.\d+\.cross_attn\.")
    return [key for key in keys if (match := pattern.match(key)) and match[1] in roots]
