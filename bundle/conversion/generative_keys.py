"""GenerativeModels' networks and those that MONAI made of them, with this bundle's blocks in them or MONAI's.

| part | GenerativeModels | MONAI and this bundle |
|---|---|---|
| ``TransformerBlock`` | ``norm1``, ``norm2`` (cross), ``norm3`` (MLP) | ``norm1``, ``norm_cross_attn``, ``norm2`` |
| attention of a feature map | ``norm``, ``to_q``, ``proj_attn`` | ``norm``, ``attn.to_q``, ``attn.out_proj`` |
| attention of ``DiffusionModelUNet`` with conditions | ``attn1.to_out.0`` | ``attn1.out_proj`` |
| upsampling | ``conv.conv`` | ``postconv.conv`` |
| norm of a ``SPADE`` with weights | ``param_free_norm.N`` | ``param_free_norm`` |

A transposed upsampling of ``AutoencoderKL`` has kernels of 3 in one and of 2 in the other, and goes neither way.
GenerativeModels trains ``proj_attn`` of a feature map along and never applies it; MONAI's blocks apply ``out_proj`` and
have none with ``include_fc=False``, which gives GenerativeModels' outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

from bundle.conversion.generative_fill import (
    CAUSAL_MASK,
    KINDS,
    PROJECTIONS,
    generative_blocks,
    identities,
    masks,
    settle_projections,
)
from bundle.conversion.monai_keys import NOT_IN_MONAI
from bundle.conversion.state import SUBJECT, State
from bundle.errors import ConversionError

PROJ_ATTN = re.compile(r"((?:.*\.)?)proj_attn\.(weight|bias)")
OUT_PROJ = re.compile(r"((?:.*\.)?)out_proj\.(weight|bias)")
TO_OUT = re.compile(r"((?:.*\.)?)to_out\.0\.(weight|bias)")
CONDITIONED = re.compile(r"(?:.*\.)?transformer_blocks\.\d+\.attn[12]\.")
UPSAMPLER = r"((?:.*\.)?(?:up_blocks\.\d+\.upsampler|decoder\.blocks\.\d+)\.)"
THEIR_UPSAMPLER = re.compile(rf"{UPSAMPLER}conv\.conv\.(weight|bias)")
OUR_UPSAMPLER = re.compile(rf"{UPSAMPLER}postconv\.conv\.(weight|bias)")
TRANSPOSED = re.compile(r"(?:.*\.)?decoder\.blocks\.\d+\.deconv\.(?:weight|bias)")
THEIR_SPADE_NORM = re.compile(r"((?:.*\.)?param_free_norm\.)N\.(weight|bias)")
OUR_SPADE_NORM = re.compile(r"((?:.*\.)?param_free_norm\.)(weight|bias)")
SPADE = re.compile(r"((?:.*\.)?)mlp_gamma\.conv\.weight")
MARK = re.compile(r"(?:.*\.)?(?:proj_attn|to_out\.0|upsampler\.conv\.conv)\.(?:weight|bias)")


def marks_of_generative(keys: Iterable[str]) -> list[str]:
    """Return the keys that no other family has."""
    keys = list(keys)
    blocks = generative_blocks(keys)
    return [key for key in keys if MARK.fullmatch(key)] + [f"{prefix}norm3.weight" for prefix in blocks]


def generative_to_bundle(state: State, network: nn.Module | None, notes: list[str]) -> State:
    """Rename what has another name in MONAI, which is this bundle's.

    Args:
        state: GenerativeModels' keys, projections combined or not.
        network: network that the result is for; it tells whether a feature map's attention has an output projection.
        notes: what is more than renaming is appended.

    Raises:
        ConversionError: listing the keys of a block that is neither family's, and those that two keys would become.
    """
    wanted = {} if network is None else network.state_dict()
    spatial = _spatial_prefixes(state, wanted)
    _refuse_both(state, OUT_PROJ, _known_projections(state))
    blocks = generative_blocks(state)
    odd = [f"{block}norm2.weight" for block in blocks if f"{block}norm2.weight" in state and not _crosses(state, block)]
    odd += [f"{block}cross_attn" for block in blocks if _crosses(state, block) and f"{block}norm2.weight" not in state]
    if odd:
        raise ConversionError(SUBJECT, f"norm2 without cross_attn, or the other way round: {', '.join(odd)}")

    buffers = [key for key in state if CAUSAL_MASK.fullmatch(key)]

    def name_of(key: str) -> str:
        if (match := PROJECTIONS.fullmatch(key)) and match[1] in spatial:
            return f"{match[1]}attn.{match[2]}.{match[3]}"
        if match := PROJ_ATTN.fullmatch(key):
            return f"{match[1]}{'attn.' if match[1] in spatial else ''}out_proj.{match[2]}"
        if match := TO_OUT.fullmatch(key):
            return f"{match[1]}out_proj.{match[2]}"
        if match := THEIR_UPSAMPLER.fullmatch(key):
            return f"{match[1]}postconv.conv.{match[2]}"
        if match := THEIR_SPADE_NORM.fullmatch(key):
            return f"{match[1]}{match[2]}"
        return _rename_norms(key, blocks, {"norm2": "norm_cross_attn", "norm3": "norm2"})

    result = _renamed({key: value for key, value in state.items() if key not in buffers}, name_of)
    if buffers:
        notes.append(f"dropped {', '.join(buffers)}")
    settle_projections(result, spatial, wanted, notes)
    spades = [match[1] for key in result if (match := SPADE.fullmatch(key))]
    plain = [f"{prefix}param_free_norm" for prefix in spades if f"{prefix}param_free_norm.weight" not in result]
    if plain:
        notes.append(f"GenerativeModels' outputs need eps = 1e-5, in MONAI 1e-6, in {', '.join(plain)}")
    unsure = [key for key in state if THEIR_UPSAMPLER.fullmatch(key) and "decoder.blocks." in key]
    if unsure and network is None:
        notes.append(f"took for convolutions that are not transposed, which only a network tells: {', '.join(unsure)}")
    return result


def bundle_to_generative(state: State, network: nn.Module | None, notes: list[str]) -> State:
    """Undo ``generative_to_bundle``.

    The output projection of an attention that is part of no known block becomes ``proj_attn``, unless the network has
    another name for it. What GenerativeModels keeps and MONAI or this bundle may not is filled in: ``causal_mask`` of a
    ``DecoderOnlyTransformer`` or of the network, and an identity as the ``proj_attn`` that it does not apply.

    Args:
        state: MONAI's or this bundle's keys, projections combined or not.
        network: GenerativeModels' network that the result is for.
        notes: what is more than renaming is appended.

    Raises:
        ConversionError: when an output projection has GenerativeModels' name already, two keys would become one, or a
            layer is none of GenerativeModels'.
    """
    wanted = {} if network is None else network.state_dict()
    transposed = [key for key in state if TRANSPOSED.fullmatch(key)]
    if transposed:
        raise ConversionError(SUBJECT, f"GenerativeModels has another kernel for {', '.join(transposed)}")
    foreign = [key for key in state if NOT_IN_MONAI.fullmatch(key)]
    if foreign:
        raise ConversionError(SUBJECT, f"GenerativeModels has no such layers: {', '.join(foreign)}")
    _refuse_both(state, PROJ_ATTN, set())
    blocks = _our_blocks(state)
    unused = [
        key
        for block in blocks
        if not _crosses(state, block)
        for kind in KINDS
        if (key := f"{block}norm_cross_attn.{kind}") in state
    ]
    spatial = {
        prefix
        for key in state
        if (match := PROJECTIONS.fullmatch(key)) and match[1].endswith("attn.")
        for prefix in [match[1].removesuffix("attn.")]
        if f"{prefix}norm.weight" in state and state[key].dim() < 3
    }

    def name_of(key: str) -> str:
        if (match := PROJECTIONS.fullmatch(key)) and match[1].removesuffix("attn.") in spatial:
            return f"{match[1].removesuffix('attn.')}{match[2]}.{match[3]}"
        if match := OUT_PROJ.fullmatch(key):
            return _their_projection(match[1], match[2], blocks, spatial, wanted)
        for pattern, part in ((OUR_UPSAMPLER, "conv.conv"), (OUR_SPADE_NORM, "N")):
            if match := pattern.fullmatch(key):
                return f"{match[1]}{part}.{match[2]}"
        return _rename_norms(key, blocks, {"norm_cross_attn": "norm2", "norm2": "norm3"})

    result = _renamed({key: value for key, value in state.items() if key not in unused}, name_of)
    if unused:
        notes.append(f"dropped {', '.join(unused)}")
    filled = identities(result, spatial) | masks(result, wanted)
    if filled:
        notes.append(f"filled {', '.join(filled)}")
    applied = [key for prefix in sorted(spatial) if (key := f"{prefix}proj_attn.weight") in result]
    if applied:
        notes.append(f"GenerativeModels does not apply {', '.join(applied)}; MONAI did")
    return result | filled


def undecided_keys(state: Iterable[str], source: str) -> list[str]:
    """Return the keys on the way to or from GenerativeModels whose new name or place only a network tells for certain.

    From it that is all that are not MONAI's already: a transposed upsampling does not differ, and a feature map's
    attention may be wanted with or without output projection. To it, an output projection outside of all known blocks.
    """
    keys = list(state)
    if source == "generative":
        blocks = generative_blocks(keys)
        norms = [f"{block}{norm}.{kind}" for block in blocks for norm in ("norm2", "norm3") for kind in KINDS]
        names = (PROJ_ATTN, TO_OUT, THEIR_UPSAMPLER, THEIR_SPADE_NORM)
        return [key for key in keys if key in norms or any(name.fullmatch(key) for name in names)]
    prefixes = {f"{block}{part}." for block in _our_blocks(keys) for part in ("attn", "cross_attn")}
    prefixes |= {key.removesuffix("norm.weight") + "attn." for key in keys if key.endswith("norm.weight")}
    return [
        key
        for key in keys
        if (match := OUT_PROJ.fullmatch(key)) and match[1] not in prefixes and not CONDITIONED.fullmatch(match[1])
    ]


def _renamed(state: State, name_of: Callable[[str], str]) -> State:
    names = {key: name_of(key) for key in state}
    taken: dict[str, str] = {}
    clashes = [key for key, name in names.items() if taken.setdefault(name, key) != key]
    if clashes:
        raise ConversionError(SUBJECT, f"two keys would get one name: {', '.join(clashes)}")
    return {names[key]: value for key, value in state.items()}


def _rename_norms(key: str, blocks: list[str], names: Mapping[str, str]) -> str:
    for block in blocks:
        for old, new in names.items():
            if key in (f"{block}{old}.weight", f"{block}{old}.bias"):
                return f"{block}{new}{key.removeprefix(f'{block}{old}')}"
    return key


def _crosses(state: Mapping[str, Tensor], block: str) -> bool:
    return any(key.startswith(f"{block}cross_attn.") for key in state)


def _our_blocks(keys: Iterable[str]) -> list[str]:
    """Return the prefixes of ``TransformerBlock``s as MONAI and this bundle name them."""
    keys = set(keys)
    firsts = [key.removesuffix("norm1.weight") for key in sorted(keys) if key.endswith("norm1.weight")]
    return [prefix for prefix in firsts if {f"{prefix}norm2.weight", f"{prefix}mlp.linear1.weight"} <= keys]


def _spatial_prefixes(state: State, wanted: Mapping[str, Tensor]) -> set[str]:
    """Return the prefixes of attention over feature maps, which has its norm beside the projections."""
    found = {match[1] for key in state if (match := PROJECTIONS.fullmatch(key)) and f"{match[1]}norm.weight" in state}
    plain = {match[1] for key in wanted if (match := PROJECTIONS.fullmatch(key))}
    return found - plain


def _known_projections(state: Mapping[str, Tensor]) -> set[str]:
    """Return the prefixes of the attentions whose output projection both families call ``out_proj``."""
    return {f"{block}{part}." for block in generative_blocks(state) for part in ("attn", "cross_attn")}


def _refuse_both(state: State, names: re.Pattern[str], known: set[str]) -> None:
    """Refuse an output projection that has the other family's name, when some have this one's."""
    clashes = [key for key in state if (match := names.fullmatch(key)) and match[1] not in known]
    this = PROJ_ATTN if names is OUT_PROJ else OUT_PROJ
    if clashes and (names is PROJ_ATTN or any(this.fullmatch(key) for key in state)):
        found = f"an output projection has the other family's name already: {', '.join(clashes)}"
        raise ConversionError(SUBJECT, found)


def _their_projection(
    prefix: str, kind: str, blocks: list[str], spatial: set[str], wanted: Mapping[str, Tensor]
) -> str:
    if prefix.removesuffix("attn.") in spatial and prefix.endswith("attn."):
        return f"{prefix.removesuffix('attn.')}proj_attn.{kind}"
    for name in ("out_proj", "to_out.0"):
        if f"{prefix}{name}.{kind}" in wanted:
            return f"{prefix}{name}.{kind}"
    if CONDITIONED.fullmatch(prefix):
        return f"{prefix}to_out.0.{kind}"
    if any(prefix in (f"{block}attn.", f"{block}cross_attn.") for block in blocks):
        return f"{prefix}out_proj.{kind}"
    return f"{prefix}proj_attn.{kind}"
