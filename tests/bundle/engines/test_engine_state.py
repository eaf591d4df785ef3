"""What an engine's network is filled with is what it computes: programs load ``model.pt`` into it, strictly."""

from __future__ import annotations

import pytest
import torch

from bundle.engines import load_network
from tests.tiny_network import save_weights, tiny_network

ENGINES = (
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("torchscript", "float32"),
    ("openvino", "float32"),
    pytest.param("onnxruntime", "float32", marks=pytest.mark.slow),
)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_state_dict_of_the_network_loads_strictly_into_the_engine(engine, precision, tiny_checkpoint, cache_dir):
    loaded = load_network(tiny_network(), tiny_checkpoint, engine, precision, cache_dir=cache_dir)
    state = torch.load(tiny_checkpoint, weights_only=True)
    image = torch.rand(1, 1, 16, 24, 16)
    before = loaded(image)
    result = loaded.load_state_dict(state, strict=True)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert torch.equal(loaded(image), before)
    given = loaded.state_dict()
    assert given.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in given.items())


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_engine_computes_the_weights_that_were_loaded_into_it(engine, precision, tiny_checkpoint, cache_dir, tmp_path):
    loaded = load_network(tiny_network(), tiny_checkpoint, engine, precision, cache_dir=cache_dir)
    other = tiny_network()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    image = torch.rand(1, 1, 16, 24, 16)
    before = loaded(image)
    loaded.load_state_dict(other.state_dict(), strict=True)
    wanted = load_network(other, save_weights(other, tmp_path), engine, precision, cache_dir=cache_dir)(image)
    torch.testing.assert_close(loaded(image), wanted, atol=2e-5, rtol=1e-5)
    assert not torch.allclose(loaded(image), before, atol=1e-2)


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_state_dict_of_another_network_is_refused_by_name(engine, precision, tiny_checkpoint, cache_dir):
    loaded = load_network(tiny_network(), tiny_checkpoint, engine, precision, cache_dir=cache_dir)
    state = torch.load(tiny_checkpoint, weights_only=True)
    first = next(iter(state))
    with pytest.raises(RuntimeError, match="surplus"):
        loaded.load_state_dict({**state, "surplus": torch.zeros(1)}, strict=True)
    with pytest.raises(RuntimeError, match=first.rsplit(".", 1)[-1]):
        loaded.load_state_dict({key: value for key, value in state.items() if key != first}, strict=True)


@pytest.mark.parametrize("fused", [True, False])
def test_engine_converts_the_other_layout_of_a_checkpoint_too(fused, tiny_checkpoint):
    loaded = load_network(tiny_network(), tiny_checkpoint, "torch", "float32")
    other = tiny_network(use_combined_linear=fused)
    image = torch.rand(1, 1, 16, 24, 16)
    loaded.load_state_dict(other.state_dict(), strict=True)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image), other.eval()(image), atol=2e-5, rtol=1e-5)


def test_members_of_an_ensemble_keep_their_own_weights(tiny_checkpoint):
    both = load_network(tiny_network(), [tiny_checkpoint] * 2, "torch", "float32")
    state = torch.load(tiny_checkpoint, weights_only=True)
    assert both.state_dict().keys() == {f"members.{index}.{key}" for index in (0, 1) for key in state}
    both.load_state_dict(both.state_dict(), strict=True)
