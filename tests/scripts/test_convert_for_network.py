"""scripts.convert_checkpoint for a network that is named: the result is loaded into it before anything is written."""

from __future__ import annotations

import json

import monai.networks.nets as monai_nets
import pytest
import torch

from networks import SABlock, ViT
from scripts.convert_checkpoint import main
from tests.scripts.test_convert_checkpoint import SIZES, assert_refused, assert_same, read

DECODER = {"num_tokens": 5, "max_seq_len": 7, "attn_layers_dim": 8, "attn_layers_depth": 2, "attn_layers_heads": 2}


@pytest.fixture
def generative(tmp_path):
    """A decoder of GenerativeModels', its norms under their names there."""
    state = monai_nets.DecoderOnlyTransformer(**DECODER).state_dict()
    state = {key.replace("norm2", "norm3"): value for key, value in state.items() if "norm_cross_attn" not in key}
    path = tmp_path / "generative.pt"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("named", ["config", "class"])
def test_generative_checkpoint_is_loaded_into_the_network_that_is_named(generative, tmp_path, capsys, named):
    target, back, config = tmp_path / "monai.pt", tmp_path / "back.pt", tmp_path / "config.json"
    config.write_text(json.dumps({"decoder": {"_target_": "monai.networks.nets.DecoderOnlyTransformer", **DECODER}}))
    words = ["monai.networks.nets.DecoderOnlyTransformer", *(f"{name}={value}" for name, value in DECODER.items())]
    network = ["--config", str(config), "--config-id", "decoder"] if named == "config" else ["--network", *words]
    assert main([str(generative), str(target), "--to", "monai", *network]) == 0
    assert "loaded into DecoderOnlyTransformer, strictly" in capsys.readouterr().out
    monai_nets.DecoderOnlyTransformer(**DECODER).load_state_dict(read(target), strict=True)
    assert main([str(target), str(back), "--to", "generative"]) == 0
    assert "loaded into no network, for none is named" in capsys.readouterr().out
    assert_same(read(back), read(generative))


def test_generative_checkpoint_without_a_network_is_refused_with_its_keys(generative, tmp_path, capsys):
    for target in ("bundle", "monai"):
        arguments = [generative, tmp_path / "out.pt", "--to", target]
        assert_refused(
            capsys, tmp_path, arguments, f"error: {generative}: generative to {target}", "blocks.1.norm3.bias"
        )
    attention = tmp_path / "attention.pt"
    torch.save(SABlock(8, 2).state_dict(), attention)
    arguments = [attention, tmp_path / "out.pt", "--to", "generative"]
    assert_refused(capsys, tmp_path, arguments, "out_proj.weight", "--config or --network is wanted")


def test_a_network_that_refuses_the_result_leaves_nothing_written(tmp_path, capsys, monkeypatch):
    source = tmp_path / "theirs.pt"
    torch.save(monai_nets.ViT(**SIZES).state_dict(), source)

    def refuse(network, state, strict):
        assert strict
        raise RuntimeError("Error(s) in loading state_dict for ViT")

    monkeypatch.setattr(ViT, "load_state_dict", refuse)
    words = [f"{name}={value}" for name, value in SIZES.items()]
    arguments = [source, tmp_path / "out.pt", "--network", "networks.ViT", *words, "num_classes=0", "global_pool="]
    assert_refused(capsys, tmp_path, arguments, f"error: {source}: the network does not load the result")


def test_order_of_heads_is_told_by_an_option(tmp_path, capsys):
    path, plain, turned = tmp_path / "timm.pt", tmp_path / "plain.pt", tmp_path / "turned.pt"
    rows = torch.arange(24.0)[:, None, None, None].repeat(1, 8, 1, 1)
    torch.save({"qkv.weight": rows, "proj.weight": torch.randn(8, 8, 1, 1)}, path)
    network = [
        "--network",
        "networks.SpatialAttention",
        "channels=8",
        "num_heads=2",
        "spatial_dims=2",
        "qkv_bias=false",
    ]
    assert main([str(path), str(plain), *network]) == 0
    assert main([str(path), str(turned), *network, "--head-first"]) == 0
    assert read(plain)["qkv.weight"][:, 0, 0, 0].tolist() == list(range(24))
    assert read(turned)["qkv.weight"][:8, 0, 0, 0].tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
    assert "reordered the rows of qkv.weight" in capsys.readouterr().out
    arguments = [path, tmp_path / "out.pt", "--head-first"]
    assert_refused(capsys, tmp_path, arguments, "error: num_heads: ", "qkv.weight")
    assert main([*map(str, arguments), "--num-heads", "2"]) == 0
