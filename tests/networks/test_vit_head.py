"""ViT: a head that can be exchanged leaves the model as if it had been built so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from networks.pooling import GLOBAL_POOLS
from tests.networks.small_vit import BAD_HEADS, FORMS, make_image, make_vit, scramble, shapes


def assert_reset(class_token, num_classes, before, after):
    options = {"class_token": class_token, "norm_eps": 1e-2, "num_layers": 1}
    network = scramble(make_vit(global_pool=before, num_classes=3, **options))
    kept, values = dict(network.named_parameters()), {n: v.clone() for n, v in network.state_dict().items()}
    network.reset_classifier(num_classes, after)
    fresh = make_vit(global_pool=after, num_classes=num_classes, seed=4, **options)
    assert shapes(network) == shapes(fresh)
    assert (network.num_classes, network.global_pool) == (num_classes, after)
    for name, parameter in network.named_parameters():
        if name in kept and not name.startswith("head.linear"):
            assert parameter is kept[name], name
            assert torch.equal(parameter, values[name]), name
        elif name == "head.linear.weight" and name in kept:
            assert not torch.equal(parameter, values[name])
    assert {module.eps for module in network.modules() if isinstance(module, nn.LayerNorm)} == {1e-2}
    fresh.load_state_dict(network.state_dict(), strict=True)
    image = make_image(12, 20)
    tokens = 12 + int(class_token or after == "token")
    expected = (2, tokens, num_classes or 24) if after == "" else (2, num_classes or 24)
    assert network(image).shape == expected
    torch.testing.assert_close(network(image), fresh(image), atol=0, rtol=0)


@pytest.mark.parametrize(("class_token", "num_classes"), [(None, 0), (None, 3), (True, 3)])
@pytest.mark.parametrize("before", GLOBAL_POOLS)
def test_reset_head_is_that_of_a_model_built_with_the_new_pool(class_token, before, num_classes):
    for after in GLOBAL_POOLS:
        assert_reset(class_token, num_classes, before, after)


@pytest.mark.parametrize(("before", "after"), list(zip(GLOBAL_POOLS, GLOBAL_POOLS[2:] + GLOBAL_POOLS[:2], strict=True)))
def test_reset_model_scripts_again(before, after):
    network = make_vit(global_pool=before, num_layers=1)
    torch.jit.script(network)
    network.reset_classifier(3, after)
    image = make_image(12, 20)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("global_pool", GLOBAL_POOLS)
def test_reset_without_a_pool_keeps_the_present_one(global_pool):
    network = scramble(make_vit(global_pool=global_pool, num_classes=3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.reset_classifier(5)
    assert network.head.global_pool == global_pool
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in after if not name.startswith("head.linear"))
    assert after["head.linear.weight"].shape == (5, 24)
    assert not after["head.linear.bias"].any()


@pytest.mark.parametrize("before", GLOBAL_POOLS)
@pytest.mark.parametrize(("num_classes", "train"), [(0, False), (3, True)])
def test_reset_follows_mode_dtype_and_device(before, num_classes, train):
    for after in GLOBAL_POOLS:
        network = make_vit(global_pool=before, num_classes=num_classes, num_layers=1).double().train(train)
        network.reset_classifier(3, after)
        assert {p.dtype for p in network.parameters()} == {torch.float64}, after
        assert {module.training for module in network.modules()} == {train}, after
        assert network(make_image(12, 20).double()).dtype == torch.float64, after
        network = make_vit(global_pool=before, num_classes=num_classes, num_layers=1).to("meta")
        network.reset_classifier(3, after)
        assert {p.device.type for p in network.parameters()} == {"meta"}, after


@pytest.mark.parametrize(("combined", "flash"), FORMS)
def test_reset_draws_the_same_attention_pool_in_every_form(combined, flash):
    networks = [make_vit(), make_vit(use_combined_linear=combined, use_flash_attention=flash)]
    for network in networks:
        torch.manual_seed(8)
        network.reset_classifier(3, "map")
    assert networks[1].head.attn_pool.attn.use_combined_linear is combined
    assert networks[1].head.attn_pool.attn.use_flash_attention is flash
    expected, got = (network(make_image(12, 20)) for network in networks)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("num_classes", "global_pool", "message"), BAD_HEADS)
@pytest.mark.parametrize("present", ["avg", "map"])
def test_bad_reset_changes_nothing(num_classes, global_pool, message, present):
    network = make_vit(global_pool=present, class_token=False)
    modules, values = dict(network.named_modules()), {n: v.clone() for n, v in network.state_dict().items()}
    output = network(make_image(12, 20))
    with pytest.raises(ValueError, match=message):
        network.reset_classifier(num_classes, global_pool)
    assert (network.head.global_pool, network.head.num_classes) == (present, 2)
    after = dict(network.named_modules())
    assert after.keys() == modules.keys()
    assert all(after[name] is modules[name] for name in modules)
    assert shapes(network) == {name: value.shape for name, value in values.items()}
    assert all(torch.equal(value, values[name]) for name, value in network.state_dict().items())
    assert torch.equal(network(make_image(12, 20)), output)


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("global_pool", GLOBAL_POOLS)
def test_features_and_head_are_the_two_halves_of_the_forward_pass(global_pool, num_classes):
    vit = scramble(make_vit(global_pool=global_pool, num_classes=num_classes)).eval()
    image = make_image(12, 20)
    tokens = vit.forward_features(image)
    assert torch.equal(tokens, vit.forward_intermediates(image)[0])
    assert torch.equal(vit.forward_head(tokens), vit(image))
    vector = vit.forward_head(tokens, pre_logits=True)
    assert vector.shape == tokens.shape if not global_pool else vector.shape == tokens[:, 0].shape
    assert torch.equal(vit.head.linear(vector), vit(image))
