"""GenerativeModels' checkpoints, there and back."""

from __future__ import annotations

import monai.networks.blocks as monai_blocks
import pytest
import torch

from bundle.conversion import convert_checkpoint, detect_family
from bundle.errors import ConversionError
from networks import SABlock
from tests.bundle.conversion.models import (
    HEADS,
    WIDTH,
    GenerativeAttention,
    Wrapped,
    assert_equal_outputs,
    assert_same,
    load,
    randomise,
)


@pytest.mark.parametrize("combined", [True, False])
def test_generative_attention_there_and_back(combined):
    theirs = randomise(Wrapped(GenerativeAttention()))
    ours = Wrapped(SABlock(WIDTH, HEADS, qkv_bias=True, use_combined_linear=combined))
    state = theirs.state_dict()
    assert detect_family(state) == "generative"
    load(ours, convert_checkpoint(state, "generative", "bundle", ours))
    assert_equal_outputs(theirs, ours, torch.randn(2, 9, WIDTH))
    for network in (theirs, None):
        assert_same(convert_checkpoint(ours.state_dict(), "bundle", "generative", network), state)


def test_generative_to_monai_goes_all_the_way():
    theirs = randomise(GenerativeAttention())
    target = monai_blocks.SABlock(WIDTH, HEADS, qkv_bias=True)
    load(target, convert_checkpoint(theirs.state_dict(), "generative", "monai", target))
    assert_equal_outputs(theirs, target, torch.randn(2, 9, WIDTH))


def test_an_output_projection_under_both_names_is_an_error():
    state = GenerativeAttention().state_dict()
    state |= {f"last.out_proj.{kind}": state[f"proj_attn.{kind}"] for kind in ("weight", "bias")}
    for source, target in (("generative", "bundle"), ("bundle", "generative")):
        with pytest.raises(ConversionError, match="name already"):
            convert_checkpoint(state, source, target)
