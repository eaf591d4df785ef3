"""timm's attention and blocks on their own or in other networks, and this bundle's.

The rows of timm's ``qkv`` are q | k | v, each head by head, or with ``head_first=True`` (``Attention2d``) head by head,
each q | k | v. Names and shapes are the same, so the weights cannot tell: who made the module has to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from bundle.conversion.state import SUBJECT, State
from bundle.errors import ConversionError, OptionError

QKV = re.compile(r"((?:.*\.)?)qkv\.(?:weight|bias)")
TO_Q = re.compile(r"(?:.*\.)?to_q\.weight")
WHOLE = re.compile(r"(?:patch_embed\.|pos_embed$|cls_token$|blocks\.|attn_pool\.|patch_embedding\.|head\.)")
ATTENTION = {"proj": "out_proj", "qkv": "qkv", "q_norm": "q_norm", "k_norm": "k_norm"}
BLOCK = {"norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.linear1", "mlp.fc2": "mlp.linear2"}


def is_part(state: Mapping[str, Tensor]) -> bool:
    """Tell whether the state has attention but is no vision transformer, in timm's keys or this bundle's."""
    attention = [key for key in state if QKV.fullmatch(key) or TO_Q.fullmatch(key)]
    feature_map = any(state[key].dim() > 3 for key in attention)
    return bool(attention) and (feature_map or not any(WHOLE.match(key) for key in state))


def rename_parts(state: State, to_bundle: bool, network: nn.Module | None) -> State:
    """Rename attention and blocks at whatever prefix, and fit 1x1 convolutions to the network's number of axes.

    Args:
        state: one family's keys, in the combined layout.
        to_bundle: from timm's names to this bundle's, or the other way.
        network: what the result is for; without one, keys of nothing known are an error, with one they stay.

    Raises:
        ConversionError: listing the keys that belong to no attention and no block.
    """
    attention, block = ATTENTION, BLOCK
    if not to_bundle:
        attention, block = ({new: old for old, new in names.items()} for names in (ATTENTION, BLOCK))
    prefixes = {match[1] for key in state if (match := QKV.fullmatch(key))}
    names = {f"{prefix}{old}": f"{prefix}{new}" for prefix in prefixes for old, new in attention.items()}
    for prefix in prefixes:
        if prefix.endswith("attn."):
            outer = prefix.removesuffix("attn.")
            names |= {f"{outer}{old}": f"{outer}{new}" for old, new in block.items()}
    result: State = {}
    unknown = []
    for key, value in state.items():
        module, _, kind = key.rpartition(".")
        name = f"{names[module]}.{kind}" if module in names and kind in ("weight", "bias") else key
        unknown += [key] if name == key and module not in names else []
        if name in result or (name != key and name in state):
            raise ConversionError(SUBJECT, f"{key} is one of two keys that would become {name}")
        result[name] = value
    if unknown and network is None:
        found = f"these belong to no attention and no block: {', '.join(unknown)}"
        raise ConversionError(SUBJECT, found, "a network that has them is wanted")
    return _fit_kernels(result, {} if network is None else network.state_dict(), to_bundle)


def _fit_kernels(state: State, wanted: Mapping[str, Tensor], to_bundle: bool) -> State:
    """Add or take away axes of size 1 of the projections' kernels, as far as the target has another number of them."""
    result = dict(state)
    prefixes = {match[1] for key in state if (match := QKV.fullmatch(key))}
    for key in (f"{prefix}{name}.weight" for prefix in prefixes for name in ("qkv", "out_proj", "proj")):
        value = result.get(key)
        if value is None or value.dim() < 4 or any(size != 1 for size in value.shape[2:]):
            continue
        separate = key.replace("qkv.weight", "to_q.weight")
        target = wanted.get(key, wanted.get(separate))
        axes = (value.dim() if to_bundle else 4) if target is None else target.dim()
        result[key] = value.reshape(*value.shape[:2], *[1] * (axes - 2))
    return result


def reorder_heads(
    state: State, num_heads: int | None, network: nn.Module | None, to_bundle: bool, notes: list[str]
) -> State:
    """Return the state with the rows of every ``qkv`` from head by head to q | k | v, or the other way.

    Args:
        state: keys of either family, in the combined layout.
        num_heads: heads of every attention; the network's, by prefix, when ``None``.
        network: what the result is for.
        to_bundle: from timm with ``head_first=True``, or to it.
        notes: what was reordered is appended.

    Raises:
        ConversionError: when the number of heads is not known or does not fit.
    """
    result = dict(state)
    modules = {} if network is None else dict(network.named_modules())
    keys = [key for key in state if QKV.fullmatch(key)]
    for key in keys:
        value = state[key]
        owner = modules.get(key.rpartition("qkv.")[0].removesuffix("."))
        heads = getattr(owner, "num_heads", None) if num_heads is None else num_heads
        if not isinstance(heads, int):
            found = f"not given, and no network tells it for {key}"
            raise ConversionError("num_heads", found, "head_first needs it", OptionError.code)
        if heads < 1 or value.shape[0] % (3 * heads) != 0:
            found = f"found {heads}"
            wanted = f"{key} {tuple(value.shape)} does not have three equal parts for each"
            raise ConversionError("num_heads", found, wanted, OptionError.code)
        outer = (heads, 3) if to_bundle else (3, heads)
        result[key] = value.unflatten(0, (*outer, -1)).transpose(0, 1).flatten(0, 2)
    notes.append(f"reordered the rows of {', '.join(keys)}")
    return result
