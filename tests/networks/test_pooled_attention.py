"""Attention to averages of neighbours: against its definition and ``SABlock``; its forms: test_local_attention."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from networks import PooledAttention, SABlock, TransformerUNet
from networks.position import AxialRotary, apply_rotary

HIDDEN, HEADS, GRID = 24, 3, (5, 6, 7)


def tokens(*grid: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, *(grid or GRID), HIDDEN, generator=torch.Generator().manual_seed(1))


def draw(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def cells(grid: tuple[int, ...], reduction: int) -> list[list[tuple[int, ...]]]:
    """Return the places whose tokens make each key, from the definition."""
    found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for place in product(*(range(n) for n in grid)):
        found.setdefault(tuple(index // reduction for index in place), []).append(place)
    return [found[key] for key in sorted(found)]


def defined(block: PooledAttention, x: torch.Tensor, kept: torch.Tensor, rotary: bool) -> torch.Tensor:
    """Attend as the definition says, in float64, one image after another."""
    block, x = block.double(), x.double()
    results = []
    for image, allowed in zip(x, kept, strict=True):
        contexts, positions = [], []
        for places in cells(tuple(image.shape[:3]), block.key_reduction):
            inside = [place for place in places if allowed[place]]
            if inside:
                contexts.append(torch.stack([image[place] for place in inside]).mean(dim=0))
                positions.append(torch.tensor(places, dtype=torch.float64).mean(dim=0))
        context = torch.stack(contexts)
        weight, bias = block.qkv.weight.chunk(3), block.qkv.bias.chunk(3)
        q = F.linear(image.flatten(0, 2), weight[0], bias[0])
        k, v = (F.linear(context, weight[part], bias[part]) for part in (1, 2))
        q, k, v = (each.unflatten(1, (HEADS, -1)).transpose(0, 1) for each in (q, k, v))  # (H, N, D)
        if rotary:
            own = torch.tensor(list(product(*map(range, image.shape[:3]))), dtype=torch.float64)
            q, k = rotated(q, own), rotated(k, torch.stack(positions))
        weights = (q @ k.transpose(1, 2) * (HIDDEN // HEADS) ** -0.5).softmax(dim=-1)
        results.append(block.out_proj((weights @ v).transpose(0, 1).flatten(1)).view(image.shape))
    return torch.stack(results)


def rotated(heads: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Rotate (H, N, D) by places (N, 3), see RoFormer."""
    pairs = HIDDEN // HEADS // 6
    frequencies = 100.0 ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
    angles = (positions[:, :, None] * frequencies).flatten(1)
    return apply_rotary(heads[None], torch.stack([angles.cos(), angles.sin()]))[0]


@pytest.mark.parametrize("reduction", [1, 2, 3, 8])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_its_definition(reduction, rotary, masked):
    block, x = draw(PooledAttention(HIDDEN, HEADS, reduction, qkv_bias=True, rotary=rotary)), tokens()
    kept = torch.rand(2, *GRID, generator=torch.Generator().manual_seed(5)) > (0.6 if masked else -1)
    with torch.no_grad():
        found = block(x, kept if masked else None)
        expected = defined(block, x, kept, rotary)
    assert (found - expected).abs().max() < 2e-5


def test_a_key_for_each_token_is_sablock():
    dense, pooled = draw(SABlock(HIDDEN, HEADS)), PooledAttention(HIDDEN, HEADS, 1, rotary=True).eval()
    pooled.load_state_dict(dense.state_dict(), strict=True)
    x, table = tokens(), AxialRotary(HIDDEN // HEADS)(*GRID)
    expected = dense(x.flatten(1, 3), None, table).reshape(x.shape)
    torch.testing.assert_close(pooled(x), expected, atol=1e-5, rtol=0)


def test_a_mask_that_leaves_cells_or_all_of_them_empty_stays_finite():
    block, x = draw(PooledAttention(HIDDEN, HEADS, rotary=True)), tokens()
    scripted = torch.jit.script(block)
    few = torch.rand(2, *GRID, generator=torch.Generator().manual_seed(5)) > 0.9
    for given in (few, torch.zeros_like(few)):
        expected = block(x, given)
        assert expected.isfinite().all()
        torch.testing.assert_close(scripted(x, given), expected, atol=1e-5, rtol=0)


def test_a_network_takes_the_weights_of_global_attention_and_stays_close():
    """What a training at finer voxels starts from: averages of neighbours say much of what these say."""
    sizes = {"channels": (8, 16, 16), "hidden_size": 48, "mlp_dim": 64, "num_layers": 2, "num_heads": 2}
    torch.manual_seed(0)
    dense, pooled = TransformerUNet(**sizes).eval(), TransformerUNet(attention="pooled", **sizes).eval()
    pooled.load_state_dict(dense.state_dict(), strict=True)
    image = torch.rand(1, 1, 40, 33, 56, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = dense(image), pooled(image)
    assert found.shape == expected.shape
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.slow
def test_exports_with_dynamic_batch_and_grid():
    block = draw(PooledAttention(HIDDEN, HEADS, rotary=True))
    dynamic = dict.fromkeys(range(4), torch.export.Dim.AUTO)
    program = torch.export.export(block, (tokens(8, 9, 10),), dynamic_shapes=(dynamic,)).module()
    for x in (tokens(12, 5, 7, batch=3), tokens(6, 6, 6), tokens(12, 9, 10)):
        torch.testing.assert_close(program(x), block(x), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_onnx_runtime_averages_a_grid_that_cells_reach_over(tmp_path):
    runtime, _ = (pytest.importorskip(name) for name in ("onnxruntime", "onnxscript"))
    block, x = draw(PooledAttention(HIDDEN, HEADS, rotary=True)), tokens(4, 5, 3)
    torch.onnx.export(block, (x,), str(tmp_path / "block.onnx"), dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "block.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), block(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PooledAttention(HIDDEN, HEADS, 0), "key_reduction must be at least 1, got 0"),
        (lambda: PooledAttention(25, HEADS), "divisible by num_heads"),
        (lambda: PooledAttention(HIDDEN, HEADS)(torch.zeros(2, 9, HIDDEN)), rf"\(B, D, H, W, {HIDDEN}\)"),
        (lambda: PooledAttention(HIDDEN, HEADS)(tokens(), torch.ones(2, *GRID)), "must be bool of shape"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
