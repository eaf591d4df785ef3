"""The cases that MONAI's documents and tests name for its blocks and networks, on ours.

Those that end otherwise here, with the reason, are in ``OTHERWISE``; docs/attention.md has them too.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from monai.networks.layers.factories import RelPosEmbedding

from networks import UNETR, CrossAttentionBlock, PatchEmbeddingBlock, SABlock, TransformerBlock, ViT

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")
RELATIVE = RelPosEmbedding.DECOMPOSED


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def grid(**values: list) -> list[dict]:
    """Return all combinations of the values."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


ATTENTION = grid(
    hidden_size=[60, 96], num_heads=[4, 6], dropout_rate=[0.0, 2 / 3, 1.0], rel_pos_embedding=[None, RELATIVE],
    input_size=[(8, 4), (4, 4, 2)],
)  # fmt: skip


@pytest.mark.parametrize("forms", grid(include_fc=[True, False], use_combined_linear=[True, False]), ids=str)
def test_self_attention_keeps_the_shape(forms):
    for options in ATTENTION:
        block = SABlock(**options, **forms, use_flash_attention=options["rel_pos_embedding"] is None).eval()
        assert block(noise(2, 32, options["hidden_size"])).shape == (2, 32, options["hidden_size"]), options


def test_cross_attention_keeps_the_shape():
    for options in ATTENTION:
        block = CrossAttentionBlock(**options, use_flash_attention=options["rel_pos_embedding"] is None).eval()
        x = noise(2, 32, options["hidden_size"])
        assert block(x, context=x).shape == x.shape, options


@pytest.mark.parametrize("crossed", [False, True])
def test_transformer_block_keeps_the_shape(crossed):
    for options in grid(hidden_size=[60, 96], num_heads=[4, 6], mlp_dim=[64, 128], dropout_rate=[0.0, 0.5]):
        x = noise(2, 32, options["hidden_size"])
        context = noise(2, 7, options["hidden_size"]) if crossed else None
        block = TransformerBlock(**options, with_cross_attention=crossed).eval()
        assert block(x, context=context).shape == x.shape, options


@pytest.mark.parametrize("kind", grid(proj_type=["conv", "perceptron"], spatial_dims=[2, 3]), ids=str)
def test_patch_embedding_makes_a_token_of_each_patch(kind):
    for options in grid(
        in_channels=[1, 4], img_size=[16, 32], patch_size=[8, 16], hidden_size=[96], num_heads=[8, 12],
        pos_embed_type=["none", "learnable", "sincos"], dropout_rate=[0.5],
    ):  # fmt: skip
        image = noise(2, options["in_channels"], *[options["img_size"]] * kind["spatial_dims"])
        tokens = (options["img_size"] // options["patch_size"]) ** kind["spatial_dims"]
        assert PatchEmbeddingBlock(**options, **kind).eval()(image).shape == (2, tokens, 96), options


@pytest.mark.parametrize(("kind", "trains"), [("learnable", True), ("sincos", False)])
def test_patch_embedding_trains_learnable_positions_only(kind, trains):
    block = PatchEmbeddingBlock(1, (16, 16, 16), (8, 8, 8), hidden_size=96, num_heads=8, pos_embed_type=kind)
    assert block.position_embeddings.requires_grad is trains


@pytest.mark.parametrize(
    "options",
    grid(
        img_size=[32], hidden_size=[48], mlp_dim=[64], num_layers=[2], num_heads=[6], num_classes=[8],
        proj_type=["conv", "perceptron"], classification=[False, True], spatial_dims=[2, 3], dropout_rate=[0.6],
    ),
    ids=str,
)  # fmt: skip
def test_vit_gives_classes_or_tokens(options):
    if options["classification"] and options["spatial_dims"] == 2:
        options = {**options, "post_activation": False}
    outputs = ViT(in_channels=4, patch_size=16, **options).eval()(noise(2, 4, *[32] * options["spatial_dims"]))
    assert outputs.shape == ((2, 8) if options["classification"] else (2, 2 ** options["spatial_dims"], 48))


@pytest.mark.parametrize(
    "options",
    grid(
        img_size=[(32, 32, 32), 32], feature_size=[4], hidden_size=[48], mlp_dim=[64], num_heads=[6],
        norm_name=["instance", "batch", ("group", {"num_groups": 2})], proj_type=["perceptron", "conv"],
    ),
    ids=str,
)  # fmt: skip
def test_unetr_gives_logits_of_the_images_size(options):
    assert UNETR(1, 2, **options).eval()(noise(1, 1, 32, 32, 32)).shape == (1, 2, 32, 32, 32)


REFUSED = [
    (SABlock, {"hidden_size": 128, "num_heads": 12, "dropout_rate": 6.0}),
    (SABlock, {"hidden_size": 620, "num_heads": 8, "dropout_rate": 0.4}),
    (SABlock, {"hidden_size": 128, "num_heads": 3, "dropout_rate": 0.1}),
    (SABlock, {"hidden_size": 128, "num_heads": 4, "causal": True}),
    (CrossAttentionBlock, {"hidden_size": 128, "num_heads": 12, "dropout_rate": 6.0}),
    (CrossAttentionBlock, {"hidden_size": 620, "num_heads": 8, "dropout_rate": 0.4}),
    (CrossAttentionBlock, {"hidden_size": 128, "num_heads": 4, "causal": True}),
    (TransformerBlock, {"hidden_size": 128, "num_heads": 12, "mlp_dim": 64, "dropout_rate": 4}),
    (TransformerBlock, {"hidden_size": 622, "num_heads": 8, "mlp_dim": 64, "dropout_rate": 0.4}),
]
EMBEDDING = {"in_channels": 1, "img_size": 96, "patch_size": 8, "hidden_size": 48, "num_heads": 6}
UNETR_SIZES = {"in_channels": 1, "out_channels": 4, "feature_size": 4, "hidden_size": 48, "mlp_dim": 64, "num_heads": 6}
REFUSED += [
    (kind, {**EMBEDDING, **more, **bad})
    for kind, more in ((PatchEmbeddingBlock, {}), (ViT, {"mlp_dim": 64, "num_layers": 1}))
    for bad in (
        {"dropout_rate": 5.0},
        {"img_size": 32, "patch_size": 64, "proj_type": "perceptron"},
        {"num_heads": 14},
        {"proj_type": "perc"},
    )
]
REFUSED += [
    (UNETR, {**UNETR_SIZES, "img_size": 32, **bad})
    for bad in ({"dropout_rate": 5.0}, {"hidden_size": 50, "num_heads": 7}, {"proj_type": "perc"}, {"img_size": 8})
]


@pytest.mark.parametrize(("kind", "options"), REFUSED, ids=str)
def test_what_monai_refuses_is_refused(kind, options):
    with pytest.raises(ValueError, match=r"\w"):
        kind(**options)


@pytest.mark.parametrize("kind", [SABlock, CrossAttentionBlock])
def test_a_causal_block_attends_to_no_later_token(kind):
    block = kind(128, 1, dropout_rate=0.1, causal=True, sequence_length=16, save_attn=True)
    block(noise(1, 16, 128))
    assert torch.triu(block.att_mat, diagonal=1).sum() == 0
    kind(128, 1, dropout_rate=0.1, causal=True, sequence_length=16, use_flash_attention=True)(noise(1, 16, 128))


def test_masked_tokens_get_no_attention():
    block = SABlock(128, 1, dropout_rate=0.1, sequence_length=16, save_attn=True)
    mask = noise(1, 64) > 0
    block(noise(1, 64, 128), attn_mask=mask)
    assert not block.att_mat.squeeze()[:, ~mask[0]].any()


@pytest.mark.parametrize("kind", [SABlock, CrossAttentionBlock])
def test_attention_is_kept_where_asked_for_only(kind):
    for save_attn, shape in ((False, (0,)), (True, (2, 2, 48, 48))):
        block = kind(hidden_size=32, num_heads=2, dropout_rate=0, save_attn=save_attn)
        block(noise(2, 48, 32))
        assert block.att_mat.shape == shape
    vit = ViT(1, 32, 16, hidden_size=48, mlp_dim=64, num_layers=2, num_heads=12, save_attn=True)
    vit(noise(1, 1, 32, 32, 32))
    assert vit.blocks[0].attn.att_mat.shape == (1, 12, 8, 8)


@pytest.mark.parametrize("kind", [SABlock, CrossAttentionBlock])
def test_parameters_follow_the_width_of_the_heads_not_their_number(kind):
    def count(**options):
        return sum(parameter.numel() for parameter in kind(hidden_size=128, **options).parameters())

    assert count(num_heads=8) == count(num_heads=8, dim_head=16) == count(num_heads=16)
    assert count(num_heads=8, dim_head=8) < count(num_heads=8) < count(num_heads=8, dim_head=32)


@pytest.mark.parametrize("options", grid(include_fc=[True, False], use_combined_linear=[True, False]), ids=str)
def test_self_attention_scripts(options):
    block, x = SABlock(60, 4, input_size=(8, 4), **options).eval(), noise(2, 32, 60)
    torch.testing.assert_close(torch.jit.script(block)(x), block(x))


def test_both_kernels_give_the_same():
    options = {"hidden_size": 60, "num_heads": 4, "input_size": (16, 32), "causal": False}
    fused, eager = SABlock(**options, use_flash_attention=True), SABlock(**options, use_flash_attention=False)
    eager.load_state_dict(fused.state_dict())
    torch.testing.assert_close(fused(noise(2, 32, 60)), eager(noise(2, 32, 60)), atol=1e-5, rtol=0)


X, IMAGE = (2, 64, 24), (1, 1, 13, 13, 13)
OTHERWISE = {
    "relative positions with the fused kernel are no error: they are a bias of its scores": (
        lambda: SABlock(24, 3, rel_pos_embedding=RELATIVE, input_size=(8, 8), use_flash_attention=True)(noise(*X)),
        X,
    ),
    "attention is kept beside the fused kernel": (
        lambda: SABlock(24, 3, save_attn=True, use_flash_attention=True)(noise(*X)),
        X,
    ),
    "a mask goes with a causal block": (
        lambda: SABlock(24, 3, causal=True, sequence_length=64)(noise(*X), attn_mask=noise(2, 64) > 0),
        X,
    ),
    "dim_head makes any width divisible": (lambda: SABlock(25, 3, dim_head=6)(noise(2, 64, 25)), (2, 64, 25)),
    "an image that patches do not fill is padded": (
        lambda: PatchEmbeddingBlock(1, 13, 4, 24, 2, proj_type="perceptron")(noise(*IMAGE)),
        (1, 64, 24),
    ),
    "ViT gives its outputs alone; forward_intermediates gives the hidden states too": (
        lambda: ViT(1, 16, 8, hidden_size=24, mlp_dim=48, num_layers=2, num_heads=2)(noise(1, 1, 16, 16, 16)),
        (1, 8, 24),
    ),
    "UNETR takes images of any size": (lambda: UNETR(**UNETR_SIZES, img_size=32)(noise(2, 1, 20, 36, 32)), None),
}


@pytest.mark.parametrize("difference", OTHERWISE)
def test_what_ends_otherwise_in_monai_works_here(difference):
    make, shape = OTHERWISE[difference]
    found = make()
    assert found.isfinite().all()
    assert found.shape == (shape or (2, 4, 20, 36, 32))
