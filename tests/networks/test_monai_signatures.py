"""A class takes what its twin in MONAI takes: names, order, defaults and values, or docs/attention.md says so."""

from __future__ import annotations

import inspect
import re
from itertools import product
from pathlib import Path

import pytest
import torch
from monai.networks import blocks as monai_blocks
from monai.networks import nets as monai_nets
from monai.networks.layers.factories import RelPosEmbedding

import networks

DOCS = Path(__file__).resolve().parents[2] / "docs" / "attention.md"
TWINS = {
    "SABlock": monai_blocks.SABlock,
    "CrossAttentionBlock": monai_blocks.CrossAttentionBlock,
    "TransformerBlock": monai_blocks.TransformerBlock,
    "PatchEmbeddingBlock": monai_blocks.PatchEmbeddingBlock,
    "ViT": monai_nets.ViT,
    "UNETR": monai_nets.UNETR,
}
ATTENTION = {"hidden_size": 24, "num_heads": 2}
IMAGE = {"in_channels": 1, "img_size": 16, "hidden_size": 24, "num_heads": 2}
SMALLEST = {
    "SABlock": ATTENTION,
    "CrossAttentionBlock": ATTENTION,
    "TransformerBlock": {**ATTENTION, "mlp_dim": 16},
    "PatchEmbeddingBlock": {**IMAGE, "patch_size": 8},
    "ViT": {**IMAGE, "patch_size": 8, "mlp_dim": 16, "num_layers": 1},
    "UNETR": {**IMAGE, "out_channels": 2, "mlp_dim": 16, "feature_size": 4},
}
RELATIVE = [
    None, "decomposed", "DECOMPOSED", "Decomposed", RelPosEmbedding.DECOMPOSED, "rotary", "", 3,
    ("decomposed", {}), (RelPosEmbedding.DECOMPOSED, {"s_input_dims": (2, 6)}),
]  # fmt: skip
VALUES = {
    "rel_pos_embedding": [{"input_size": (3, 4), "rel_pos_embedding": value} for value in RELATIVE],
    "proj_type": [{"proj_type": value} for value in ("conv", "perceptron", " conv ", "perc", "", None, 3, False)],
    "pos_embed_type": [
        {"pos_embed_type": value}
        for value in ("none", "learnable", "sincos", "fourier", " sincos", "rope", "", None, False)
    ],
    "post_activation": [
        {"post_activation": value, "classification": True} for value in ("Tanh", "none", "", None, False)
    ],
    "norm_name": [{"norm_name": value} for value in ("instance", "INSTANCE", "Batch", ("batch", {"affine": False}))],
    "classification": [{"classification": value} for value in (True, False)],
    "spatial_dims": [{"spatial_dims": value} for value in (2, 3)],
    "dropout_rate": [{"dropout_rate": value} for value in (0, 0.5, 1, -0.1, 1.1)],
    "dim_head": [{"dim_head": value} for value in (None, 5, 12)],
    "causal": [{"causal": True}, {"causal": True, "sequence_length": 8}, {"causal": False, "sequence_length": 8}],
    "num_heads": [{"num_heads": value} for value in (1, 3, 5, 7)],
    "pos_embed_kwargs": [
        {"pos_embed_type": "fourier", "pos_embed_kwargs": {"scales": 2.0}},
        {"pos_embed_type": "sincos", "pos_embed_kwargs": {"temperature": 100.0}},
    ],
}


def listed() -> dict[str, tuple[str, str]]:
    """Return what docs/attention.md says of an argument: MONAI's way, and ours."""
    section = DOCS.read_text(encoding="utf-8").split("### Arguments")[1].split("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {name: (row[1], row[2]) for row in rows[2:] for name in re.findall(r"`(\w+)`", row[0])}


def parameters(function: object) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", TWINS)
def test_arguments_have_monais_names_and_order_and_ours_go_by_name_alone(name):
    wanted, found = parameters(TWINS[name]), parameters(getattr(networks, name))
    by_place = [key for key, value in found.items() if value.kind is value.POSITIONAL_OR_KEYWORD]
    assert by_place == list(wanted)
    assert {value.kind for key, value in found.items() if key not in wanted} <= {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", TWINS)
def test_defaults_are_monais_or_listed(name):
    wanted, found = parameters(TWINS[name]), parameters(getattr(networks, name))
    for key, value in wanted.items():
        if found[key].default != value.default:
            assert listed()[key] == (f"`{value.default}`", f"`{found[key].default}`"), key


@pytest.mark.parametrize("name", TWINS)
def test_forward_takes_what_monais_does_and_then_more(name):
    wanted, found = parameters(TWINS[name].forward), parameters(getattr(networks, name).forward)
    assert list(found)[: len(wanted)] == list(wanted)
    assert {key: found[key].default for key in wanted} == {key: value.default for key, value in wanted.items()}
    assert all(value.default is None for key, value in found.items() if key not in wanted)


def cases(name: str, argument: str) -> list[dict[str, object]]:
    """Return the values of an argument that a module has the arguments for."""
    return [values for values in VALUES[argument] if values.keys() <= parameters(TWINS[name]).keys()]


def is_taken(twin: type, arguments: dict[str, object]) -> bool:
    try:
        twin(**arguments)
    except (ValueError, TypeError):
        return False
    return True


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize(("name", "argument"), [pair for pair in product(TWINS, VALUES) if cases(*pair)])
def test_accepted_values_are_monais(name, argument):
    for values in cases(name, argument):
        arguments = {**SMALLEST[name], **values}
        by_monai = is_taken(
            TWINS[name], {**arguments, "use_flash_attention": False} if "rel_pos" in argument else arguments
        )
        assert is_taken(getattr(networks, name), arguments) == by_monai, values


@pytest.mark.parametrize(
    ("name", "argument", "value", "by_monai"),
    [
        ("SABlock", "dim_head", 0, True),
        ("ViT", "post_activation", "tanh", True),
        ("ViT", "post_activation", True, True),
        ("ViT", "proj_type", "CONV", False),
        ("ViT", "pos_embed_type", "SinCos", False),
        ("SABlock", "rel_pos_embedding", ("decomposed", {"other": 3}), True),
        ("SABlock", "rel_pos_embedding", (monai_blocks.rel_pos_embedding.DecomposedRelativePosEmbedding, {}), True),
    ],
)
def test_values_that_only_one_of_both_takes_are_listed(name, argument, value, by_monai):
    """None of these is taken in silence to mean another thing than in MONAI."""
    arguments = {**SMALLEST[name], argument: value, **({"input_size": (3, 4)} if "rel_pos" in argument else {})}
    assert is_taken(TWINS[name], arguments) is by_monai
    assert is_taken(getattr(networks, name), arguments) is not by_monai
    assert argument in listed()


def test_positions_of_one_argument_mean_the_same_in_both():
    """By place alone, up to the last argument of MONAI's: the modules have the same weights and give the same."""
    torch.manual_seed(0)
    by_place = (1, 16, 8, 24, 40, 2, 3, "perceptron", "sincos", True, 5, 0.0, 2, False, True, False)
    assert len(by_place) == len(parameters(monai_nets.ViT))
    theirs, ours = monai_nets.ViT(*by_place).eval(), networks.ViT(*by_place).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    image = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(ours(image), theirs(image)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("spelling", RELATIVE[1:5] + RELATIVE[8:9])
def test_relative_positions_are_monais_in_every_spelling(spelling):
    options = {"hidden_size": 24, "num_heads": 2, "rel_pos_embedding": spelling, "input_size": (3, 4)}
    torch.manual_seed(0)
    theirs, ours = monai_blocks.SABlock(**options).eval(), networks.SABlock(**options).eval()
    for table in theirs.rel_positional_embedding.rel_pos_arr:
        torch.nn.init.normal_(table)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    tokens = torch.randn(2, 12, 24)
    torch.testing.assert_close(ours(tokens), theirs(tokens), atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("values", VALUES["pos_embed_kwargs"], ids=str)
def test_positions_are_monais_with_its_options(values):
    options = {**SMALLEST["PatchEmbeddingBlock"], **values}
    torch.manual_seed(0)
    theirs = monai_blocks.PatchEmbeddingBlock(**options)
    torch.manual_seed(0)  # Fourier's are drawn
    ours = networks.PatchEmbeddingBlock(**options)
    assert ours.n_patches == theirs.n_patches
    assert torch.equal(ours.position_embeddings, theirs.position_embeddings)


def test_tanh_goes_with_classification_as_in_monai():
    image = torch.randn(1, 1, 16, 16, 16)
    for options in ({"classification": True}, {"classification": True, "global_pool": "avg"}):
        assert isinstance(networks.ViT(**SMALLEST["ViT"], **options).activation, torch.nn.Tanh)
    assert isinstance(networks.ViT(**SMALLEST["ViT"], global_pool="avg").activation, torch.nn.Identity)
    assert networks.ViT(**SMALLEST["ViT"], num_classes=7)(image).shape == (1, 8, 24)  # ignored, as in MONAI
    assert networks.ViT(**SMALLEST["ViT"], num_classes=7, global_pool="avg")(image).shape == (1, 7)
