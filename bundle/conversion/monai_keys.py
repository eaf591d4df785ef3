"""What MONAI's transformers keep beyond, or under another name than, this bundle's."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import nn

from bundle.conversion.state import SUBJECT, State
from bundle.errors import ConversionError

CROSS_NORM = re.compile(r"((?:.*\.)?)norm_cross_attn\.(?:weight|bias)")
CROSS_ATTENTION = re.compile(r"((?:.*\.)?)cross_attn\..+")
CAUSAL_MASK = re.compile(r"(?:.*\.)?causal_mask")
POSITIONS = re.compile(r"(?:.*\.)?patch_embedding\.position_embeddings")
OUR_HEAD = re.compile(r"((?:.*\.)?)head\.linear\.(weight|bias)")
# A linear, or the first part of a sequence with a tanh.
MONAI_HEAD = re.compile(r"((?:.*\.)?)classification_head\.(?:0\.)?(weight|bias)")
NOT_IN_MONAI = re.compile(r"(?:.*\.)?(?:head\.(?:norm|attn_pool)|[qk]_norm|(?:global|local)_branch)\..+")


def _blocks(keys: Iterable[str], pattern: re.Pattern[str]) -> set[str]:
    """Return the prefixes of the blocks that have such a key."""
    return {match[1] for key in keys if (match := pattern.fullmatch(key))}


def unused_cross_norms(keys: Iterable[str]) -> list[str]:
    """Return the keys ``norm_cross_attn.*`` of blocks without cross-attention."""
    keys = list(keys)
    used = _blocks(keys, CROSS_ATTENTION)
    return [key for key in keys if (match := CROSS_NORM.fullmatch(key)) and match[1] not in used]


def _unused(state: State, network: nn.Module | None) -> list[str]:
    """Return the keys without which the result is the same."""
    unused = [key for key in state if CAUSAL_MASK.fullmatch(key)]  # it follows from the sequence length
    if network is None:
        return unused + unused_cross_norms(state)
    wanted = network.state_dict()
    crossing = _blocks(wanted, CROSS_ATTENTION)
    for key, value in state.items():
        match = CROSS_NORM.fullmatch(key) or CROSS_ATTENTION.fullmatch(key)
        zero_positions = POSITIONS.fullmatch(key) and key not in wanted and not value.any()
        if (match and match[1] not in crossing) or zero_positions:
            unused.append(key)
    return unused


def monai_to_bundle(state: State, network: nn.Module | None, notes: list[str]) -> State:
    """Rename the head and leave out what is not used.

    That is ``causal_mask``; without a network, ``norm_cross_attn.*`` of blocks that have no ``cross_attn.*``; with one,
    both where the network has no cross-attention, and positions of zeros where it has no positions.

    Args:
        state: MONAI's keys.
        network: network of this bundle that the result is for.
        notes: what is left out is appended.

    Raises:
        ConversionError: when two keys are the head.
    """
    unused = _unused(state, network)
    result: State = {}
    for key, value in state.items():
        if key in unused:
            continue
        match = MONAI_HEAD.fullmatch(key)
        name = f"{match[1]}head.linear.{match[2]}" if match else key
        if name in result or (match and name in state):
            raise ConversionError(SUBJECT, f"{key} is one of two keys that would become {name}")
        result[name] = value
    if unused:
        notes.append(f"dropped {', '.join(unused)}")
    return result


def bundle_to_monai(state: State, network: nn.Module | None, notes: list[str]) -> State:
    """Rename the head and, for a network, add what MONAI keeps but does not use.

    Args:
        state: this bundle's keys.
        network: MONAI's network that the result is for: ``norm_cross_attn`` of blocks without cross-attention is filled
            with ones and zeros, ``causal_mask`` with a lower triangle, positions that are not there with zeros. Without
            one, nothing is filled and the head is that of MONAI's default, ``classification_head.0``.
        notes: what is filled is appended.

    Raises:
        ConversionError: listing the keys of layers that MONAI does not have.
    """
    foreign = [key for key in state if NOT_IN_MONAI.fullmatch(key)]
    if foreign:
        raise ConversionError(SUBJECT, f"MONAI has no such layers: {', '.join(foreign)}")
    wanted = {} if network is None else network.state_dict()
    result: State = {}
    for key, value in state.items():
        if match := OUR_HEAD.fullmatch(key):
            plain = f"{match[1]}classification_head.{match[2]}"
            key = plain if plain in wanted else f"{match[1]}classification_head.0.{match[2]}"
        result[key] = value
    filled: State = {}
    norms = unused_cross_norms(wanted)
    for key, value in wanted.items():
        if key in result:
            continue
        if CAUSAL_MASK.fullmatch(key):
            filled[key] = torch.ones_like(value).tril()
        elif key in norms:
            filled[key] = torch.ones_like(value) if key.endswith("weight") else torch.zeros_like(value)
        elif POSITIONS.fullmatch(key):
            filled[key] = torch.zeros_like(value)
    if filled:
        notes.append(f"filled {', '.join(filled)}")
    return result | filled
