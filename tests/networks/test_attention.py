"""SABlock: layouts, checkpoints, training and arguments; ``test_attention_matrix.py`` holds it to the formula."""

from __future__ import annotations

import copy
import pickle
from itertools import product

import pytest
import torch

from networks import SABlock, TransformerBlock, TransformerUNet, combine_qkv, separate_qkv

HIDDEN, HEADS, TOKENS = 48, 4, 30
FORMS = list(product((True, False), (True, False)))  # use_combined_linear, use_flash_attention


def make_block(combined: bool = True, flash: bool = True, seed: int = 0, **options) -> SABlock:
    torch.manual_seed(seed)
    return SABlock(HIDDEN, HEADS, use_combined_linear=combined, use_flash_attention=flash, **options)


def make_tokens(count: int = TOKENS, seed: int = 1) -> torch.Tensor:
    return torch.randn(2, count, HIDDEN, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_same_seed_gives_same_weights_in_both_layouts(qkv_bias):
    fused = make_block(True, qkv_bias=qkv_bias)
    after_fused = torch.get_rng_state()
    separate = make_block(False, qkv_bias=qkv_bias)
    assert torch.equal(torch.get_rng_state(), after_fused), "modules built next must start from the same weights too"
    converted = separate_qkv(fused.state_dict())
    assert converted.keys() == separate.state_dict().keys()
    assert all(torch.equal(converted[key], value) for key, value in separate.state_dict().items())
    for block in (fused, separate):
        torch.manual_seed(5)
        block.init_weights(0.02)
    assert all(
        torch.equal(separate_qkv(fused.state_dict())[key], value) for key, value in separate.state_dict().items()
    )


@pytest.mark.parametrize(("source", "target"), list(product((True, False), (True, False))))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_checkpoint_of_either_layout_loads_into_either_form(source, target, dtype, tolerance):
    first = make_block(source, qkv_bias=True, seed=3).to(dtype).eval()
    second = make_block(target, qkv_bias=True, seed=4).to(dtype).eval()
    state = first.state_dict()
    keys = list(state)
    second.load_state_dict(state, strict=True)
    assert list(state) == keys, "the caller's dictionary must stay as it is"
    x = make_tokens().to(dtype)
    torch.testing.assert_close(second(x), first(x), atol=tolerance, rtol=0)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda block: pickle.loads(pickle.dumps(block))])
def test_a_copy_reads_either_layout_by_a_hook_of_its_own(clone):
    block = make_block(True, seed=3)
    copied = clone(block)
    block.use_combined_linear = False  # what the hook of the first would go by
    copied.load_state_dict(make_block(False, seed=4).state_dict(), strict=True)
    assert torch.equal(copied(make_tokens()), make_block(True, seed=4)(make_tokens()))


def test_incomplete_checkpoint_is_refused():
    state = make_block(False).state_dict()
    del state["to_k.weight"]
    with pytest.raises(RuntimeError, match=r"qkv\.weight"):
        make_block(True).load_state_dict(state)


@pytest.mark.parametrize("flash", [True, False])
def test_dropout_acts_in_training_only(flash):
    block, x = make_block(flash=flash, dropout_rate=0.3), make_tokens()
    assert not torch.equal(block.train()(x), block(x))
    assert torch.equal(block.eval()(x), block(x))
    torch.testing.assert_close(block(x), make_block(flash=flash).eval()(x))


@pytest.mark.parametrize("flash", [True, False])
def test_dropout_keeps_the_mean_in_training(flash):
    block, x = make_block(flash=flash, dropout_rate=0.2, include_fc=False).train(), make_tokens()
    mean = torch.stack([block(x) for _ in range(400)]).mean(0)
    assert (mean - block.eval()(x)).abs().mean() < 0.02


def make_transformer(seed: int, combined: bool) -> torch.nn.Module:
    torch.manual_seed(seed)
    return TransformerBlock(HIDDEN, 96, HEADS, qkv_bias=True, use_combined_linear=combined)


def make_network(seed: int, combined: bool) -> torch.nn.Module:
    torch.manual_seed(seed)
    sizes = {"channels": (4, 4, 8), "hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 2}
    return TransformerUNet(1, 3, position_grid=(2, 2, 2), use_combined_linear=combined, **sizes)


@pytest.mark.parametrize(("make", "shape"), [(make_transformer, (2, 20, HIDDEN)), (make_network, (1, 1, 16, 16, 24))])
def test_fused_and_separate_qkv_train_alike_from_the_same_seed(make, shape):
    networks = [make(7, combined) for combined in (True, False)]
    initial = {name: value.clone() for name, value in networks[0].state_dict().items()}
    other = combine_qkv(networks[1].state_dict())
    assert all(torch.equal(other[name], value) for name, value in initial.items())
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9) for network in networks]
    generator = torch.Generator().manual_seed(8)
    for step in range(20):
        x, wanted = (torch.randn(shape, generator=generator) for _ in range(2))
        losses = []
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            out = network(x)
            loss = (out - wanted[:, : out.shape[1]]).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], abs=1e-5), step
    trained, other = networks[0].state_dict(), combine_qkv(networks[1].state_dict())
    for name, value in trained.items():
        torch.testing.assert_close(other[name], value, atol=1e-5, rtol=0)
        assert not torch.equal(value, initial[name]), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_size": 10, "num_heads": 3}, "divisible by num_heads 3"),
        ({"dropout_rate": 1.5}, "got 1.5"),
        ({"num_heads": 0}, "at least 1, got 0"),
        ({"causal": True}, "needs sequence_length"),
        ({"rel_pos_embedding": "decomposed"}, "needs input_size"),
        ({"rel_pos_embedding": "rotary"}, "one of decomposed, got 'rotary'"),
        ({"rel_pos_embedding": ("decomposed", {"c_dim": 3}), "input_size": (4, 5)}, "s_input_dims alone, got c_dim"),
        ({"rel_pos_embedding": "decomposed", "input_size": (4,)}, r"2 or 3 positive entries, got \[4\]"),
        ({"dim_head": 0}, "dim_head must be at least 1, got 0"),
        ({"context_input_size": 16, "use_combined_linear": False}, "input of width 48, got context_input_size 16"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SABlock(**{"hidden_size": HIDDEN, "num_heads": HEADS, **arguments})


@pytest.mark.parametrize(
    "shape", [(2, TOKENS + 1), (TOKENS, 2), (3, TOKENS, TOKENS), (2, 3, TOKENS, TOKENS), (TOKENS,), (2, TOKENS, 1)]
)
def test_mask_of_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match="attn_mask must have the shape"):
        make_block()(make_tokens(), torch.ones(shape, dtype=torch.bool))


def test_float_key_mask_of_zeros_and_ones_is_refused():
    mask = torch.ones(2, TOKENS)
    mask[:, ::2] = 0
    with pytest.raises(ValueError, match="give it as bool"):
        make_block()(make_tokens(), mask)


@pytest.mark.parametrize(("combined", "flash"), FORMS)
def test_mask_of_as_many_rows_as_the_batch_is_read_as_keys(combined, flash):
    block, x = make_block(combined, flash).eval(), torch.randn(TOKENS, TOKENS, HIDDEN)
    mask = torch.rand(TOKENS, TOKENS) > 0.4
    one_by_one = torch.cat([block(x[b : b + 1, mask[b]].clone(), None).sum((0, 1))[None] for b in range(TOKENS)])
    kept = torch.where(mask[..., None], block(x, mask), 0).sum(1)
    torch.testing.assert_close(kept, one_by_one, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "option", [{"causal": True, "sequence_length": 20}, {"rel_pos_embedding": "decomposed", "input_size": (4, 5)}]
)
def test_more_tokens_than_the_block_is_made_for_are_refused(option):
    with pytest.raises(ValueError, match="for 20 tokens"):
        make_block(**option)(make_tokens())


def test_conversion_leaves_the_callers_dictionary_alone():
    state = make_block(True, qkv_bias=True).state_dict()
    copy = dict(state)
    back = combine_qkv(separate_qkv(state))
    assert state.keys() == copy.keys() == back.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())
