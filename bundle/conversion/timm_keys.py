"""timm's ``VisionTransformer`` and this bundle's ``ViT``, in the combined layout; for its parts see ``timm_parts``.

timm's default layer norms have eps 1e-6: give ``ViT(norm_eps=1e-6)``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bundle.conversion.inflation import deflate_patches, deflate_positions, find_grid, fit_patches, fit_positions
from bundle.conversion.state import SUBJECT, State
from bundle.conversion.timm_parts import is_part, rename_parts
from bundle.errors import ConversionError

PATCHES = "patch_embedding.patch_embeddings.weight"
POSITIONS = "patch_embedding.position_embeddings"
POOL_QKV = "head.attn_pool.attn.qkv"
KINDS = ("weight", "bias")
TENSORS = {"cls_token": "cls_token", "pos_embed": POSITIONS, "attn_pool.latent": "head.attn_pool.latent"}
MODULES = {
    "patch_embed.proj": "patch_embedding.patch_embeddings",
    "blocks.*.norm1": "blocks.*.norm1",
    "blocks.*.attn.qkv": "blocks.*.attn.qkv",
    "blocks.*.attn.q_norm": "blocks.*.attn.q_norm",
    "blocks.*.attn.k_norm": "blocks.*.attn.k_norm",
    "blocks.*.attn.proj": "blocks.*.attn.out_proj",
    "blocks.*.norm2": "blocks.*.norm2",
    "blocks.*.mlp.fc1": "blocks.*.mlp.linear1",
    "blocks.*.mlp.fc2": "blocks.*.mlp.linear2",
    "norm": "norm",
    "fc_norm": "head.norm",
    "attn_pool.proj": "head.attn_pool.attn.out_proj",
    "attn_pool.norm": "head.attn_pool.norm",
    "attn_pool.mlp.fc1": "head.attn_pool.mlp.linear1",
    "attn_pool.mlp.fc2": "head.attn_pool.mlp.linear2",
    "head": "head.linear",
}
TIMM_NAMES = TENSORS | {f"{old}.{kind}": f"{new}.{kind}" for old, new in MODULES.items() for kind in KINDS}
BUNDLE_NAMES = {new: old for old, new in TIMM_NAMES.items()}


def _rename(state: State, names: Mapping[str, str], target: str) -> State:
    """Rename all keys by the table, in which ``*`` is the number of a block.

    Raises:
        ConversionError: listing the keys that are not in the table.
    """
    result: State = {}
    unknown = []
    for key, value in state.items():
        block = re.match(r"blocks\.(\d+)\.", key)
        name = names.get(f"blocks.*.{key[block.end() :]}" if block else key)
        if name is None:
            unknown.append(key)
        else:
            result[name.replace("*", block[1]) if block else name] = value
    if unknown:
        found = f"{target} has no place for {', '.join(unknown)}, and without them the result differs"
        raise ConversionError(SUBJECT, found)
    return result


def _fuse_pool(state: State) -> State:
    """Take ``attn_pool.q`` and ``attn_pool.kv`` out of the state, in place, and return them as one linear."""
    keys = [key for kind in KINDS for part in ("q", "kv") if (key := f"attn_pool.{part}.{kind}") in state]
    fused: State = {}
    for kind in KINDS:
        pair = [f"attn_pool.q.{kind}", f"attn_pool.kv.{kind}"]
        if not any(key in state for key in pair):
            continue
        if not all(key in state for key in pair):
            missing = [key for key in pair if key not in state]
            raise ConversionError(SUBJECT, f"{', '.join(keys)} lack {', '.join(missing)}")
        q, kv = (state.pop(key) for key in pair)
        if list(kv.shape) != [size * (2 if axis == 0 else 1) for axis, size in enumerate(q.shape)]:
            shapes = f"{pair[0]} {tuple(q.shape)}, {pair[1]} {tuple(kv.shape)}"
            raise ConversionError(SUBJECT, shapes, "twice the rows of q are wanted in kv")
        fused[f"{POOL_QKV}.{kind}"] = torch.cat([q, kv])
    return fused


def timm_to_bundle(state: State, network: nn.Module | None, grid_size: Sequence[int] | None, notes: list[str]) -> State:
    """Rename; add the class token's position into the class token; inflate for a 3D network.

    Args:
        state: timm's keys.
        network: ``networks.ViT`` that the result is for. When it is 3D, the patch embedding is repeated along depth
            and divided by it, and the positions are resampled to its grid. Input channels are summed when it has one.
        grid_size: grid (H, W) of the positions; the network's in the plane, or else a square, when ``None``.
        notes: what is more than renaming is appended.

    Raises:
        ConversionError: listing the keys that ``networks.ViT`` has no place for.
    """
    if is_part(state):
        return rename_parts(state, to_bundle=True, network=network)
    _check_positions(state, "pos_embed")
    rest = dict(state)
    pool = _fuse_pool(rest)
    result = _rename(rest, TIMM_NAMES, "networks.ViT") | pool
    wanted = {} if network is None else network.state_dict()
    grid = getattr(getattr(network, "patch_embedding", None), "grid_size", None)
    is_3d = PATCHES in wanted and wanted[PATCHES].dim() == 5
    if PATCHES in result and PATCHES in wanted and result[PATCHES].dim() == 4:
        fitted = fit_patches(result[PATCHES], wanted[PATCHES].shape)
        if fitted is not result[PATCHES]:
            notes.append(f"fitted patch_embed.proj.weight {tuple(result[PATCHES].shape)} to {tuple(fitted.shape)}")
        result[PATCHES] = fitted
    if POSITIONS in result:
        positions = result[POSITIONS]  # (1, [1 +] H * W, C)
        plane = _plane_of(positions, "cls_token" in result, grid_size, grid)
        result |= _split_class_position(positions, result.get("cls_token"), plane[0])
        if is_3d and grid is not None:
            if plane[1] is None:
                found = f"pos_embed has {positions.shape[1]} positions, no square"
                raise ConversionError(SUBJECT, found, "their grid is wanted")
            result[POSITIONS] = fit_positions(result[POSITIONS], plane[1], grid)
            notes.append(f"fitted pos_embed {plane[1]} to {list(grid)}")
    return result


def _check_positions(state: State, key: str) -> None:
    if key in state and (state[key].dim() != 3 or state[key].shape[0] != 1 or state[key].shape[1] < 1):
        raise ConversionError(SUBJECT, f"{key} has the shape {tuple(state[key].shape)}", "(1, N, C) is wanted")


def _plane_of(
    positions: Tensor, class_token: bool, grid_size: Sequence[int] | None, grid: Sequence[int] | None
) -> tuple[int, list[int] | None]:
    """Return the number of class positions and the 2D grid of the others, see ``find_grid``."""
    if grid_size is None:
        return find_grid(positions.shape[1], class_token, [] if grid is None else [grid[-2:]])
    extra = positions.shape[1] - math.prod(grid_size)
    if len(grid_size) != 2 or extra not in ((0, 1) if class_token else (0,)):
        found = f"pos_embed has {positions.shape[1]} positions, which the grid {grid_size} does not give"
        raise ConversionError(SUBJECT, found)
    return extra, list(grid_size)


def _split_class_position(positions: Tensor, token: Tensor | None, extra: int) -> State:
    if token is None or extra == 0:
        return {POSITIONS: positions}
    if token.shape != positions[:, :1].shape:
        shapes = f"cls_token {tuple(token.shape)}, pos_embed {tuple(positions.shape)}"
        raise ConversionError(SUBJECT, shapes, "a class token as wide as its position is wanted")
    # The sum is what timm computes in its forward pass.
    return {"cls_token": token + positions[:, :1], POSITIONS: positions[:, 1:]}


def bundle_to_timm(state: State, network: nn.Module | None, grid_size: Sequence[int] | None) -> State:
    """Rename, and write zeros as the class token's position; a 3D checkpoint must be an inflated 2D one.

    Args:
        state: keys of ``networks.ViT``.
        network: timm's that the result is for; tells the number of axes where the state is no ``ViT``'s.
        grid_size: grid (D, H, W) of the positions, needed for a 3D checkpoint that has any.

    Raises:
        ConversionError: listing the keys that timm has no place for, or that differ along depth.
    """
    if is_part(state):
        return rename_parts(state, to_bundle=False, network=network)
    _check_positions(state, POSITIONS)
    flat = dict(state)
    if PATCHES in flat and flat[PATCHES].dim() == 5:
        flat |= _deflate(flat, grid_size)
    pool: State = {}
    for kind in KINDS:
        if (key := f"{POOL_QKV}.{kind}") in flat:
            q, k, v = flat.pop(key).chunk(3)
            pool |= {f"attn_pool.q.{kind}": q, f"attn_pool.kv.{kind}": torch.cat([k, v])}
    result = _rename(flat, BUNDLE_NAMES, "timm's VisionTransformer") | pool
    if "cls_token" in result and "pos_embed" in result:
        positions = result["pos_embed"]
        result["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    return result


def _deflate(state: State, grid_size: Sequence[int] | None) -> State:
    """Return the patch embedding and positions without depth."""
    weight = deflate_patches(state[PATCHES])
    differing = [PATCHES] if weight is None else []
    flat: State = {} if weight is None else {PATCHES: weight}
    if POSITIONS in state:
        count = state[POSITIONS].shape[1]
        if grid_size is None or len(grid_size) != 3 or math.prod(grid_size) != count:
            found = f"{POSITIONS} has {count} positions in 3D, which the grid {grid_size} does not give"
            raise ConversionError(SUBJECT, found, "their grid (D, H, W) is wanted")
        positions = deflate_positions(state[POSITIONS], grid_size)
        differing += [POSITIONS] if positions is None else []
        flat |= {} if positions is None else {POSITIONS: positions}
    if differing:
        found = f"timm is 2D and this 3D checkpoint no inflated 2D one: along depth {', '.join(differing)} differ"
        raise ConversionError(SUBJECT, found)
    return flat
