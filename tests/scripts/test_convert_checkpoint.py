"""scripts.convert_checkpoint on good and bad files."""

from __future__ import annotations

import json

import monai.networks.nets as monai_nets
import pytest
import torch
from torch import nn

from networks import SABlock, ViT
from scripts.convert_checkpoint import main

SIZES = {"in_channels": 1, "img_size": 16, "patch_size": 8, "hidden_size": 24, "mlp_dim": 40, "num_layers": 2}
SIZES |= {"num_heads": 3}
CONFIG = {
    "network_def": {"_target_": "networks.ViT", **SIZES, "num_classes": 0, "global_pool": ""},
    "with_head": {"_target_": "networks.ViT", **SIZES, "classification": True, "num_classes": 5},
    "theirs": {"_target_": "monai.networks.nets.ViT", **SIZES},
    "number": 3,
}


class Trap:
    """A pickle of this calls a function when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    return monai_nets.ViT(**SIZES).eval()


@pytest.fixture
def source(tmp_path, theirs):
    path = tmp_path / "theirs.pt"
    torch.save(theirs.state_dict(), path)
    return path


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


def read(path):
    return torch.load(path, weights_only=True)


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


def assert_refused(capsys, folder, arguments, *messages):
    """One line on stderr that holds all messages, exit code 1, and the folder as it was."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([str(argument) for argument in arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for message in messages:
        assert message in lines[0]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not list(folder.glob(".unfinished-*"))


def test_monai_checkpoint_runs_here_and_goes_back(run_main, source, theirs, config, tmp_path):
    target, back = tmp_path / "ours.pt", tmp_path / "back.pt"
    done = run_main("scripts.convert_checkpoint", source, target, "--config", config)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == f"{source}: monai (detected), {len(read(source))} tensors"
    assert lines[1].startswith("dropped blocks.0.norm_cross_attn.weight, ")
    assert lines[2] == f"{target}: bundle, {len(read(target))} tensors"
    assert lines[3] == "loaded into ViT, strictly"
    ours = ViT(**SIZES, num_classes=0, global_pool="").eval()
    assert ours.state_dict().keys() == read(target).keys()
    ours.load_state_dict(read(target))
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image)[0], atol=1e-5, rtol=1e-5)
    arguments = (target, back, "--from", "bundle", "--to", "monai", "--config", config, "--config-id", "theirs")
    done = run_main("scripts.convert_checkpoint", *arguments)
    assert done.returncode == 0, done.stderr
    assert "bundle (given)" in done.stdout
    assert_same(read(back), read(source))


def test_layout_is_changed_and_changed_back(source, tmp_path):
    separate, combined = tmp_path / "separate.pt", tmp_path / "combined.pt"
    assert main([str(source), str(separate), "--to", "monai", "--layout", "separate"]) == 0
    assert "blocks.1.attn.to_v.weight" in read(separate)
    assert separate.stat().st_size < 1.1 * source.stat().st_size
    assert main([str(separate), str(combined), "--to", "monai", "--layout", "combined"]) == 0
    assert_same(read(combined), read(source))


@pytest.mark.parametrize(("entry", "arguments"), [("state_dict", ()), ("model", ()), ("ema", ("--key", "ema"))])
def test_state_dict_is_found_inside_a_training_checkpoint(source, tmp_path, entry, arguments):
    wrapped, target, plain = tmp_path / "wrapped.pt", tmp_path / "target.pt", tmp_path / "plain.pt"
    torch.save({"epoch": 3, entry: read(source)}, wrapped)
    assert main([str(wrapped), str(target), *arguments]) == 0
    assert main([str(source), str(plain)]) == 0
    assert_same(read(target), read(plain))


def test_3d_checkpoint_goes_to_timm_with_its_grid(tmp_path, capsys):
    network = ViT(**SIZES | {"img_size": (16, 24, 8)}, global_pool="avg")
    nn.init.constant_(network.patch_embedding.patch_embeddings.weight, 0.25)
    positions = torch.randn(1, 3, 24)
    state = network.state_dict() | {"patch_embedding.position_embeddings": positions.repeat(1, 2, 1)}
    path, target = tmp_path / "deep.pt", tmp_path / "flat.pt"
    torch.save(state, path)
    assert_refused(capsys, tmp_path, [path, target, "--to", "timm"], str(path), "grid")
    assert main([str(path), str(target), "--to", "timm", "--grid-size", "2", "3", "1"]) == 0
    found = read(target)["pos_embed"]
    assert torch.equal(found, positions)
    assert found.untyped_storage().nbytes() == positions.numel() * 4  # the part alone, not what it was cut from
    assert torch.equal(read(target)["patch_embed.proj.weight"], torch.full((24, 1, 8, 8), 2.0))


def test_existing_target_is_kept_unless_overwriting(source, tmp_path, capsys):
    target = tmp_path / "target.pt"
    target.write_text("mine")
    assert_refused(capsys, tmp_path, [source, target], f"{target}: exists already")
    assert target.read_text() == "mine"
    assert main([str(source), str(target), "--overwrite"]) == 0
    assert "blocks.0.norm1.weight" in read(target)
    assert_refused(capsys, tmp_path, [source, tmp_path, "--overwrite"], f"{tmp_path}: is a folder")


def test_source_may_be_replaced(source):
    before = read(source)
    assert main([str(source), str(source), "--layout", "separate", "--overwrite"]) == 0
    assert torch.equal(read(source)["blocks.0.attn.to_q.weight"], before["blocks.0.attn.qkv.weight"][:24])


def _truncated(path, state):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:5000])


def _trapped(path, state):
    torch.save(state | {"trap": Trap(path.with_name("sprung"))}, path)


BAD = {
    "missing": (lambda path, state: None, "not found"),
    "empty": (lambda path, state: path.write_bytes(b""), "cannot be read"),
    "text": (lambda path, state: path.write_text("weights: none\n" * 50), "cannot be read"),
    "truncated": (_truncated, "cannot be read"),
    "code": (_trapped, "cannot be read"),
    "list": (lambda path, state: torch.save(list(state.values()), path), "holds no state dict"),
    "deep": (lambda path, state: torch.save({"net": {"state_dict": state}}, path), "found net"),
    "no_attention": (lambda path, state: torch.save(nn.Linear(2, 2).state_dict(), path), "no attention found"),
    "mixed": (lambda path, state: torch.save(state | {"pos_embed": torch.ones(1)}, path), "timm (pos_embed)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_source_is_one_line_with_its_name_and_the_reason(source, tmp_path, capsys, name):
    spoil, message = BAD[name]
    path = tmp_path / f"{name}.pt"
    spoil(path, read(source))
    assert_refused(capsys, tmp_path, [path, tmp_path / "out.pt"], f"error: {path}: ", message)
    assert not (tmp_path / "sprung").exists()


def test_keys_that_do_not_fit_the_network_are_listed(source, tmp_path, config, capsys):
    state = read(source)
    state["patch_embedding.patch_embeddings.bias"] = torch.ones(7)
    state["more.weight"] = state.pop("blocks.1.norm2.weight")
    torch.save(state, source)
    assert_refused(
        capsys,
        tmp_path,
        [source, tmp_path / "out.pt", "--config", config],
        f"error: {source}: ",
        "missing: blocks.1.norm2.weight; left over: more.weight; ",
        "misshapen: patch_embedding.patch_embeddings.bias (7,) in place of (24,)",
    )
    arguments = [source, tmp_path / "out.pt", "--config", config, "--config-id", "with_head"]
    assert_refused(capsys, tmp_path, arguments, "cls_token", "head.linear.weight")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "none.json"], "none.json: not found"),
        (["--config", "CONFIG", "--config-id", "nothing"], "config.json: no network can be built from id 'nothing'"),
        (["--config", "CONFIG", "--config-id", "number"], "wanted to be a network, got int"),
        (["--network", "networks.Nothing"], "error: --network: networks.Nothing cannot be built"),
        (["--network", "networks.ViT", "img_size"], "error: --network: found 'img_size'; NAME=VALUE is wanted"),
        (["--network", "builtins.dict", "a=1"], "error: --network: builtins.dict makes a dict; a network is wanted"),
        (["--network", "networks.ViT", "--config", "CONFIG"], "--config names a network too"),
        (["--config", "SOURCE"], "theirs.pt: no network can be built"),
        (["--key", "ema"], "holds no state dict under 'ema'"),
        (["--from", "timm"], "networks.ViT has no place for patch_embedding.position_embeddings"),
        (["--to", "timm", "--layout", "separate"], "combined layout only"),
        (["--to", "timm"], "3D"),
        (["--grid-size", "0", "4"], "error: grid_size: found [0, 4]; 2 or 3 positive entries are wanted"),
    ],
)
def test_wrong_option_is_one_line(source, config, tmp_path, capsys, arguments, message):
    arguments = [{"CONFIG": config, "SOURCE": source}.get(part, part) for part in arguments]
    assert_refused(capsys, tmp_path, [source, tmp_path / "out.pt", *arguments], message)


def test_safetensors_are_refused_on_both_sides(source, tmp_path, capsys):
    other = tmp_path / "weights.safetensors"
    other.write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    assert_refused(capsys, tmp_path, [other, tmp_path / "out.pt"], str(other), "safetensors are not supported")
    target = tmp_path / "out.safetensors"
    assert_refused(capsys, tmp_path, [source, target], str(target), "safetensors are not supported")


def test_folder_that_does_not_exist_is_named(source, tmp_path, capsys):
    assert_refused(capsys, tmp_path, [source, tmp_path / "none" / "out.pt"], f"{tmp_path / 'none'} does not exist")


def test_failure_while_writing_leaves_the_old_target(source, tmp_path, capsys, monkeypatch):
    target = tmp_path / "target.pt"
    torch.save(SABlock(24, 3).state_dict(), target)

    def fill_the_disk(state, path):
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file: no space\nfrom here")

    monkeypatch.setattr(torch, "save", fill_the_disk)
    assert_refused(capsys, tmp_path, [source, target, "--overwrite"], f"{target}: cannot be written", "no space")
