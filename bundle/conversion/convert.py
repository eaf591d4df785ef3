"""Convert a checkpoint from one family of keys to another, by way of this bundle's keys in the combined layout.

| family       | of |
|--------------|----|
| `bundle`     | this bundle's ``networks`` |
| `monai`      | MONAI's ``ViT``, ``UNETR``, ``TransformerBlock``, ``SABlock`` |
| `generative` | MONAI GenerativeModels' networks and blocks, see ``generative_keys``; always separate |
| `timm`       | timm's ``VisionTransformer``, ``Block``, ``Attention``, ``Attention2d``; always combined |

GenerativeModels' networks become those that MONAI made of them, with its blocks or with this bundle's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from bundle.choices import FAMILIES, LAYOUTS
from bundle.conversion.generative_fill import keep_buffers
from bundle.conversion.generative_keys import bundle_to_generative, generative_to_bundle
from bundle.conversion.monai_keys import bundle_to_monai, monai_to_bundle
from bundle.conversion.state import SUBJECT, State
from bundle.conversion.timm_keys import bundle_to_timm, timm_to_bundle
from bundle.conversion.timm_parts import is_part, reorder_heads
from bundle.errors import ConversionError
from networks.qkv_layout import combine_qkv, qkv_layouts, to_layout

OPTION = "option"
"""Code of errors that are about an argument, not about the state."""
ONLY_LAYOUT = {"generative": "separate", "timm": "combined"}
MONAI_CROSS_ATTENTION = re.compile(r"(?:.*\.)?(?:cross_attn|transformer_blocks\.\d+\.attn2)\.")


def convert_checkpoint(
    state: Mapping[str, Tensor],
    source: str,
    target: str,
    network: nn.Module | None = None,
    layout: str | None = None,
    grid_size: Sequence[int] | None = None,
    notes: list[str] | None = None,
    head_first: bool = False,
    num_heads: int | None = None,
) -> State:
    """Return a state dict of another family; the caller's is not changed, and no key gets lost unsaid.

    Without a network, a checkpoint for MONAI has nothing filled in that this bundle does not keep (``causal_mask``,
    unused ``norm_cross_attn``), so that MONAI loads it with ``strict=False`` where it has such; its head is that of
    MONAI's default, ``classification_head.0``. What comes from GenerativeModels has all that MONAI keeps.

    Args:
        state: tensors by their names.
        source: family of the state.
        target: family of the result.
        network: what the result must fit, key by key and shape by shape; for ``bundle``, in either layout.
        layout: ``"combined"`` or ``"separate"``; when ``None``, the network's, or else the state's, block by block.
            Cross-attention for MONAI is separate whatever is wanted: MONAI has no other.
        grid_size: grid of the positions in the state, last axis fastest: (H, W) of one from timm, when it is neither
            the network's nor a square; (D, H, W) of a 3D one on its way to timm.
        notes: what is more than renaming is appended, a line for each step.
        head_first: whether timm's module was built with ``head_first=True``; names and shapes do not tell.
        num_heads: heads of its every attention; the network's when ``None``. For ``head_first`` only.

    Raises:
        ConversionError: when an argument is not legal (its code is ``"option"`` then); when a key is unknown, missing,
            left over or misshapen, and then all such keys are listed; when the target cannot express the state.
    """
    _check_arguments(state, source, target, layout, grid_size)
    if head_first:
        _check_head_first(state, source, target)
    notes = [] if notes is None else notes
    try:
        kept = qkv_layouts(state)
        result = combine_qkv(state)
    except ValueError as error:
        raise ConversionError(SUBJECT, str(error).rstrip(".")) from error
    if head_first:
        result = reorder_heads(result, num_heads, network, source == "timm", notes)
    if source != target:
        result = _rename(result, source, target, network, grid_size, notes)
        if network is None and {source, target} == {"monai", "generative"}:
            result = keep_buffers(result, state, notes)
    if source == "generative":
        kept = dict.fromkeys(qkv_layouts(result), False)  # under their new names
    if network is None:
        return _arrange(result, kept, target, layout)
    wanted = network.state_dict()
    fitted = _arrange(result, kept | qkv_layouts(wanted), target, None if target == "bundle" else layout)
    _check_fit(fitted, wanted)
    return fitted if layout is None else _arrange(fitted, {}, target, layout)


def _rename(
    state: State,
    source: str,
    target: str,
    network: nn.Module | None,
    grid_size: Sequence[int] | None,
    notes: list[str],
) -> State:
    """Go to this bundle's keys and on to the target's."""
    result = _to_bundle(state, source, target, network, grid_size, notes)
    return _from_bundle(result, target, network, grid_size, notes)


def _to_bundle(
    state: State,
    source: str,
    target: str,
    network: nn.Module | None,
    grid_size: Sequence[int] | None,
    notes: list[str],
) -> State:
    ours = network if target == "bundle" else None
    if source == "monai":
        return monai_to_bundle(state, ours, notes)
    if source == "generative":
        return generative_to_bundle(state, network if target in ("bundle", "monai") else None, notes)
    if source == "timm":
        return timm_to_bundle(state, ours, grid_size, notes)
    return state


def _from_bundle(
    state: State, target: str, network: nn.Module | None, grid_size: Sequence[int] | None, notes: list[str]
) -> State:
    if target == "monai":
        return bundle_to_monai(state, network, notes)
    if target == "generative":
        return bundle_to_generative(state, network, notes)
    if target == "timm":
        return bundle_to_timm(state, network, grid_size)
    return state


def _check_arguments(
    state: Mapping[str, Tensor], source: str, target: str, layout: str | None, grid_size: Sequence[int] | None
) -> None:
    for family in (source, target):
        if family not in FAMILIES:
            raise ConversionError("family", f"found {family!r}", f"one of {', '.join(FAMILIES)} is wanted", OPTION)
    if layout is not None and layout not in LAYOUTS:
        raise ConversionError("layout", f"found {layout!r}", f"one of {', '.join(LAYOUTS)} is wanted", OPTION)
    if layout is not None and layout != ONLY_LAYOUT.get(target, layout):
        only = f"{target} has the {ONLY_LAYOUT[target]} layout only"
        raise ConversionError("layout", f"found {layout!r}", only, OPTION)
    if grid_size is not None and (len(grid_size) not in (2, 3) or min(grid_size) < 1):
        raise ConversionError("grid_size", f"found {list(grid_size)}", "2 or 3 positive entries are wanted", OPTION)
    others = [str(key) for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others:
        raise ConversionError(SUBJECT, f"these are none: {', '.join(others)}", "tensors are wanted")


def _check_head_first(state: Mapping[str, Tensor], source: str, target: str) -> None:
    if (source == "timm") == (target == "timm"):
        raise ConversionError("head_first", f"from {source} to {target}", "timm on one side is wanted", OPTION)
    if not is_part(state):
        raise ConversionError("head_first", "the state is a vision transformer's", "which has no such order", OPTION)


def _arrange(state: State, kept: Mapping[str, bool], target: str, layout: str | None) -> State:
    """Return the state with every attention block in the layout wanted, or else in that of ``kept``, by prefix."""
    result = dict(state)
    layout = ONLY_LAYOUT.get(target, layout)
    for prefix, combined in qkv_layouts(state).items():
        wanted = kept.get(prefix, combined) if layout is None else layout == "combined"
        if target == "monai" and MONAI_CROSS_ATTENTION.fullmatch(prefix):
            wanted = False
        to_layout(result, prefix, wanted)
    return result


def _check_fit(state: State, wanted: Mapping[str, Tensor]) -> None:
    """Raise ConversionError listing all keys in which the state differs from the network's."""
    faults = {
        "missing": [key for key in wanted if key not in state],
        "left over": [key for key in state if key not in wanted],
        "misshapen": [
            f"{key} {tuple(state[key].shape)} in place of {tuple(value.shape)}"
            for key, value in wanted.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    listed = [f"{fault}: {', '.join(keys)}" for fault, keys in faults.items() if keys]
    if listed:
        raise ConversionError(SUBJECT, "does not fit the network", "; ".join(listed))
