"""Block, pooled and global-local attention: against masked SABlock, the branches' formulas, scripted and exported."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from networks import BlockAttention, CrossAttentionBlock, GlobalLocalAttention, PooledAttention, SABlock
from networks.position import AxialRotary

HIDDEN, HEADS, GRID = 24, 3, (5, 6, 7)
FORMS = list(product((True, False), (True, False)))  # use_combined_linear, use_flash_attention
LAYOUTS = [(4, 0), (4, 2), ((2, 3, 7), 0), ((2, 3, 4), (1, 2, 3)), ((5, 6, 7), 0), (1, 0), (8, 5)]  # block size, shift
FUSIONS = {
    "add": lambda far, near: far + near,
    "mult": lambda far, near: far * near,
    "avg": lambda far, near: 0.5 * (far + near),
    "max": lambda far, near: torch.where(far > near, far, near),
}


def tokens(*grid: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, *(grid or GRID), HIDDEN, generator=torch.Generator().manual_seed(1))


def draw(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def same_block(grid: tuple[int, ...], block_size, shift) -> torch.Tensor:
    """Tell for each pair of tokens whether they share a block, from the definition: shape (N, N)."""
    sizes, shifts = ((v,) * 3 if isinstance(v, int) else v for v in (block_size, shift))
    blocks = []
    for place in product(*(range(n) for n in grid)):
        # The first block ends after `shift` tokens (a full block when 0), then one after each `size`.
        blocks.append(
            tuple(
                sum(1 for border in range(moved or size, index + 1, size) if border <= index)
                for index, size, moved in zip(place, sizes, shifts, strict=True)
            )
        )
    return torch.tensor([[a == b for b in blocks] for a in blocks])


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.square().sum(-1, keepdim=True).sqrt()


@pytest.mark.parametrize(("block_size", "shift"), LAYOUTS)
@pytest.mark.parametrize("rotary", [False, True])
def test_blocks_equal_block_diagonal_attention(block_size, shift, rotary):
    dense = draw(SABlock(HIDDEN, HEADS, qkv_bias=True))
    x, mask = tokens(), same_block(GRID, block_size, shift)
    table = AxialRotary(HIDDEN // HEADS)(*GRID) if rotary else None
    expected = dense(x.flatten(1, 3), mask, table).reshape(x.shape)
    for combined, flash in FORMS:
        block = BlockAttention(
            HIDDEN, HEADS, block_size, shift, qkv_bias=True, rotary=rotary, use_combined_linear=combined,
            use_flash_attention=flash,
        ).eval()  # fmt: skip
        block.load_state_dict(dense.state_dict(), strict=True)
        torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(block.double()(x.double()).float(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("block_size", "shift"), [(4, 0), ((2, 3, 4), (1, 2, 3))])
def test_gradients_of_blocks_equal_those_of_block_diagonal_attention(block_size, shift):
    dense, block = (
        draw(module).double() for module in (SABlock(HIDDEN, HEADS), BlockAttention(HIDDEN, HEADS, block_size, shift))
    )
    x, other = (tokens().double().requires_grad_() for _ in range(2))
    dense(x.flatten(1, 3), same_block(GRID, block_size, shift)).square().sum().backward()
    block(other).square().sum().backward()
    torch.testing.assert_close(other.grad, x.grad, atol=1e-10, rtol=1e-10)
    for (name, expected), found in zip(dense.named_parameters(), block.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-9, rtol=1e-9, msg=name)


@pytest.mark.parametrize(("block_size", "shift"), LAYOUTS)
@pytest.mark.parametrize("masked", [False, True])
def test_a_change_stays_in_its_block(block_size, shift, masked):
    block, x, changed = draw(BlockAttention(HIDDEN, HEADS, block_size, shift)), tokens(), tokens()
    mask = torch.ones(2, *GRID, dtype=torch.bool) if masked else None
    changed[:, 2, 3, 1] += 1
    moved = (block(x, mask) != block(changed, mask)).any(-1)[0].flatten()
    place = (2 * GRID[1] + 3) * GRID[2] + 1
    assert torch.equal(moved, same_block(GRID, block_size, shift)[place])


@pytest.mark.parametrize("pooled_size", [None, 2])
@pytest.mark.parametrize("fusion", [*FUSIONS, "gate"])
def test_a_change_reaches_every_block_through_the_global_branch(fusion, pooled_size):
    block, x, changed = (
        draw(GlobalLocalAttention(HIDDEN, HEADS, 2, fusion, pooled_size=pooled_size)),
        tokens(),
        tokens(),
    )
    changed[:, 2, 3, 1] += 5
    difference = (block(x) - block(changed)).abs().amax(-1)
    far = ~same_block(GRID, 2, 0)[(2 * GRID[1] + 3) * GRID[2] + 1].reshape(GRID)
    # "max" may take the local branch in every channel of a token; the others pass the change on everywhere.
    reached = (difference[0] > 0) & far
    assert reached.sum() == far.sum() if fusion != "max" else reached.sum() > 0.9 * far.sum()
    local = block.local_branch
    assert not (local(x) - local(changed))[:, far].any()


@pytest.mark.parametrize("shift", [0, 1])
def test_masked_tokens_count_for_nothing(shift):
    mask = torch.rand(2, *GRID, generator=torch.Generator().manual_seed(4)) > 0.4
    mask[1, :2, :2, :2] = False  # blocks with no token left
    changed = torch.where(mask[..., None], tokens(), 7.0)
    for block in (
        draw(BlockAttention(HIDDEN, HEADS, 2, shift)),
        draw(GlobalLocalAttention(HIDDEN, HEADS, 2, "avg", shift)),
        draw(GlobalLocalAttention(HIDDEN, HEADS, 2, "add", shift, pooled_size=3)),
    ):
        out = block(tokens(), mask)
        assert out.isfinite().all()
        torch.testing.assert_close(out[mask], block(changed, mask)[mask], atol=1e-6, rtol=0)
        assert not torch.allclose(out[mask], block(tokens())[mask], atol=1e-3)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusion_is_that_of_pgl_sum_on_a_sequence(fusion):
    """Global attention over T frames, local over each of M segments, both scaled to unit length, then fused."""
    length, segments = 14, 4
    block = draw(GlobalLocalAttention(HIDDEN, HEADS, (1, 1, -(-length // segments)), fusion))
    x = tokens(1, 1, length)
    far = block.global_branch(x.flatten(1, 3))
    size = -(-length // segments)
    dense = SABlock(HIDDEN, HEADS).eval()
    dense.load_state_dict(block.local_branch.state_dict())
    near = torch.cat([dense(part) for part in x.flatten(1, 3).split(size, dim=1)], dim=1)
    expected = FUSIONS[fusion](unit(far), unit(near)).reshape(x.shape)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=0)
    # One number is a cube; the missing axes are padding.
    cube = GlobalLocalAttention(HIDDEN, HEADS, size, fusion).eval()
    cube.load_state_dict(block.state_dict())
    torch.testing.assert_close(cube(x), expected, atol=1e-5, rtol=0)


def test_gate_weighs_the_branches():
    block, x = draw(GlobalLocalAttention(HIDDEN, HEADS, 3, "gate")), tokens()
    far, near = unit(block.global_branch(x.flatten(1, 3))).reshape(x.shape), unit(block.local_branch(x))
    gate = 1 / (1 + torch.exp(-(torch.cat([far, near], -1) @ block.gate.weight.T + block.gate.bias)))
    torch.testing.assert_close(block(x), gate * far + (1 - gate) * near, atol=1e-5, rtol=0)


def test_pooled_keys_are_averages():
    block, x = draw(GlobalLocalAttention(HIDDEN, HEADS, 2, pooled_size=(2, 3, 2), use_local=False)), tokens(4, 6, 6)
    averages = x.reshape(2, 2, 2, 3, 2, 2, 3, HIDDEN).mean((2, 4, 6)).flatten(1, 3)
    expected = block.global_branch(x.flatten(1, 3), averages).reshape(x.shape)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=0)
    mask = torch.ones(2, 4, 6, 6, dtype=torch.bool)
    torch.testing.assert_close(block(x, mask), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_grid_no_larger_than_the_pool_is_not_pooled(rotary, masked):
    whole = draw(GlobalLocalAttention(HIDDEN, HEADS, 3, rotary=rotary))
    pooled = GlobalLocalAttention(HIDDEN, HEADS, 3, rotary=rotary, pooled_size=(9, 6, 7)).eval()
    pooled.load_state_dict(whole.state_dict(), strict=True)
    mask = torch.rand(2, *GRID) > 0.3 if masked else None
    torch.testing.assert_close(pooled(tokens(), mask), whole(tokens(), mask), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("use_global", "use_local"), [(True, False), (False, True)])
def test_absent_branch_is_an_identity(use_global, use_local):
    block = draw(GlobalLocalAttention(HIDDEN, HEADS, 3, "gate", use_global=use_global, use_local=use_local))
    absent, present = (block.local_branch, block.global_branch)[:: 1 if use_global else -1]
    assert type(absent) is torch.nn.Identity
    assert type(present) is (CrossAttentionBlock if use_global else BlockAttention)
    assert all(name.startswith("global_branch" if use_global else "local_branch") for name in block.state_dict())
    x = tokens()
    expected = present(x.flatten(1, 3)).reshape(x.shape) if use_global else present(x)
    assert torch.equal(block(x), expected)
    assert torch.equal(torch.jit.script(block)(x), expected)


MODULES = {
    "block": lambda **flags: BlockAttention(HIDDEN, HEADS, 3, 1, rotary=True, **flags),
    "global_local": lambda **flags: GlobalLocalAttention(HIDDEN, HEADS, 3, "gate", rotary=True, **flags),
    "pooled": lambda **flags: GlobalLocalAttention(HIDDEN, HEADS, 3, "max", 2, pooled_size=2, rotary=True, **flags),
    "averages": lambda **flags: PooledAttention(HIDDEN, HEADS, rotary=True, **flags),
}


@pytest.mark.parametrize("name", MODULES)
def test_every_form_and_its_script_give_the_same(name):
    first, x = draw(MODULES[name]()), tokens()
    mask = torch.rand(2, *GRID, generator=torch.Generator().manual_seed(5)) > 0.4
    for combined, flash in FORMS:
        block = MODULES[name](use_combined_linear=combined, use_flash_attention=flash).eval()
        block.load_state_dict(first.state_dict(), strict=True)
        scripted = torch.jit.script(block)
        for given in (None, mask):
            torch.testing.assert_close(block(x, given), first(x, given), atol=1e-5, rtol=0)
            torch.testing.assert_close(scripted(x, given), first(x, given), atol=1e-5, rtol=0)
        small = tokens(2, 9, 3)
        torch.testing.assert_close(scripted(small), first(small), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODULES)
def test_gradients_of_both_kernels_agree(name):
    gradients = []
    for flash in (True, False):
        block, x = draw(MODULES[name](use_flash_attention=flash)).double(), tokens().double().requires_grad_()
        block(x, torch.arange(7).expand(2, *GRID) > 1).square().sum().backward()
        gradients.append([x.grad, *(parameter.grad for parameter in block.parameters())])
    for one, other in zip(*gradients, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("name", MODULES)
def test_bfloat16_autocast_stays_close(name):
    block, x = draw(MODULES[name]()), tokens()
    with torch.autocast("cpu", torch.bfloat16):
        found = block(x)
    assert F.cosine_similarity(found.float(), block(x), dim=-1).min() > 0.99


@pytest.mark.slow
def test_exports_with_dynamic_batch_and_grid():
    """Both branches at once: an export of the block branch takes ten seconds, alone or not."""
    block = draw(GlobalLocalAttention(HIDDEN, HEADS, 3, "max", 2, pooled_size=2, rotary=True))
    dynamic = dict.fromkeys(range(4), torch.export.Dim.AUTO)
    program = torch.export.export(block, (tokens(8, 9, 10),), dynamic_shapes=(dynamic,)).module()
    for x in (tokens(12, 5, 7, batch=3), tokens(6, 6, 6), tokens(12, 9, 10)):
        torch.testing.assert_close(program(x), block(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockAttention(HIDDEN, HEADS, 0), "block_size must be at least 1"),
        (lambda: BlockAttention(HIDDEN, HEADS, (4, 4, 0)), "block_size must be at least 1"),
        (lambda: BlockAttention(HIDDEN, HEADS, 4, 4), "shift must lie in 0 to block_size 4"),
        (lambda: BlockAttention(HIDDEN, HEADS, 4, (0, -1, 0)), "shift must lie in 0"),
        (lambda: BlockAttention(25, HEADS, 4), "divisible by num_heads"),
        (lambda: GlobalLocalAttention(HIDDEN, HEADS, 4, "sum"), "one of add, mult, avg, max, gate, got 'sum'"),
        (lambda: GlobalLocalAttention(HIDDEN, HEADS, 4, use_global=False, use_local=False), "must not both be False"),
        (lambda: GlobalLocalAttention(HIDDEN, HEADS, 4, pooled_size=(2, 0, 2)), "pooled_size must be at least 1"),
        (lambda: BlockAttention(HIDDEN, HEADS, 4)(torch.zeros(2, 9, HIDDEN)), rf"\(B, D, H, W, {HIDDEN}\)"),
        (lambda: BlockAttention(HIDDEN, HEADS, 4)(tokens(), torch.ones(2, *GRID)), "must be bool of shape"),
        (lambda: GlobalLocalAttention(HIDDEN, HEADS, 4)(tokens(), torch.ones(2, 5, 6, dtype=torch.bool)), "bool of"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
