"""Models of each family, and how the tests of conversion compare them."""

from __future__ import annotations

import torch
from torch import nn

from networks import ViT

WIDTH, HEADS, MLP, PATCH = 24, 3, 40, 8


@torch.no_grad()
def randomise(network: nn.Module) -> nn.Module:
    """Give every parameter values that no default could stand for."""
    for parameter in network.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.3 + 0.1)
    return network.eval()


def load(network: nn.Module, state: dict) -> nn.Module:
    """Load strictly, without help from the network's own hooks: keys and shapes must be its own."""
    wanted = network.state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in wanted.items()}
    network.load_state_dict(state, strict=True)
    return network.eval()


def assert_same(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


@torch.no_grad()
def assert_equal_outputs(first: nn.Module, second: nn.Module, *inputs: torch.Tensor) -> None:
    left, right = first(*inputs), second(*inputs)
    left, right = (out[0] if isinstance(out, tuple) else out for out in (left, right))
    assert left.std() > 1e-3
    torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)


def is_unused(key: str) -> bool:
    return "norm_cross_attn" in key or key.endswith("causal_mask")


def make_sa(package, combined):
    options = {"qkv_bias": True, "use_combined_linear": combined, "causal": True, "sequence_length": 11}
    return package.SABlock(WIDTH, HEADS, **options)


SIZES = {
    "in_channels": 1,
    "img_size": 16,
    "patch_size": PATCH,
    "hidden_size": WIDTH,
    "mlp_dim": MLP,
    "num_layers": 2,
    "num_heads": HEADS,
}


class GenerativeAttention(nn.Module):
    """``softmax(q k^T / sqrt(d)) v`` with the names of GenerativeModels' ``AttentionBlock``, no norm, no residual."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.proj_attn = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        q, k, v = (
            part(x).unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2) for part in (self.to_q, self.to_k, self.to_v)
        )
        weights = (q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        return self.proj_attn((weights @ v).transpose(1, 2).flatten(2))


class Wrapped(nn.Module):
    """An attention beside a layer whose keys no family knows."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.middle = nn.ModuleList([attention])
        self.norm = nn.GroupNorm(2, WIDTH)

    def forward(self, x):
        return self.middle[0](self.norm(x.transpose(1, 2)).transpose(1, 2))


def make_timm(pool="token", class_token=True, class_position=True, grid=(4, 4), channels=3, bias=True, qk_norm=False):
    """Return a random state with timm's names."""
    shapes = {"patch_embed.proj.weight": (WIDTH, channels, PATCH, PATCH), "patch_embed.proj.bias": (WIDTH,)}
    shapes["pos_embed"] = (1, grid[0] * grid[1] + (class_token and class_position), WIDTH)
    if class_token:
        shapes["cls_token"] = (1, 1, WIDTH)

    def add(name, rows, columns=None, has_bias=True):
        shapes[f"{name}.weight"] = (rows,) if columns is None else (rows, columns)
        if has_bias:
            shapes[f"{name}.bias"] = (rows,)

    for index in range(2):
        block = f"blocks.{index}."
        add(f"{block}norm1", WIDTH)
        add(f"{block}attn.qkv", 3 * WIDTH, WIDTH, bias)
        add(f"{block}attn.proj", WIDTH, WIDTH)
        add(f"{block}norm2", WIDTH)
        add(f"{block}mlp.fc1", MLP, WIDTH)
        add(f"{block}mlp.fc2", WIDTH, MLP)
        if qk_norm:
            add(f"{block}attn.q_norm", WIDTH // HEADS)
            add(f"{block}attn.k_norm", WIDTH // HEADS)
    add("fc_norm" if pool == "avg" else "norm", WIDTH)
    if pool == "map":
        shapes["attn_pool.latent"] = (1, 1, WIDTH)
        add("attn_pool.q", WIDTH, WIDTH)
        add("attn_pool.kv", 2 * WIDTH, WIDTH)
        add("attn_pool.proj", WIDTH, WIDTH)
        add("attn_pool.norm", WIDTH)
        add("attn_pool.mlp.fc1", 4 * WIDTH, WIDTH)
        add("attn_pool.mlp.fc2", WIDTH, 4 * WIDTH)
    add("head", 5, WIDTH)
    return {name: torch.randn(shape) * 0.3 + 0.1 for name, shape in shapes.items()}


def make_vit(pool="token", **options):
    """Return this bundle's ViT with timm's sizes and eps; 2D, and 32 x 32, unless told."""
    options = {"in_channels": 3, "img_size": 32, "spatial_dims": 2, "qkv_bias": True, "num_classes": 5} | options
    sizes = {key: SIZES[key] for key in ("patch_size", "hidden_size", "mlp_dim", "num_layers", "num_heads")}
    return ViT(**sizes, global_pool=pool, norm_eps=1e-6, **options).eval()


def make_3d(**options):
    return make_vit(**{"spatial_dims": 3, "img_size": (16, 32, 32)} | options)
