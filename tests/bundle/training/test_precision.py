"""Mixed precision: what is computed in bfloat16, and where it is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from bundle.machine import use_bfloat16
from bundle.training import MixedPrecisionInferer


def test_network_runs_in_bfloat16_and_returns_float32():
    network = nn.Conv3d(1, 4, 3)
    image = torch.rand(2, 1, 6, 7, 8)
    logits = MixedPrecisionInferer(SimpleInferer(), "bfloat16", "cpu")(image, network)
    expected = network.bfloat16()(image.bfloat16())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected.float(), rtol=0, atol=0)


def test_float32_leaves_the_network_alone():
    network = nn.Conv3d(1, 4, 3)
    image = torch.rand(2, 1, 6, 7, 8)
    assert torch.equal(MixedPrecisionInferer(SimpleInferer(), "float32", "cpu")(image, network), network(image))


def test_auto_follows_the_processor():
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        pytest.skip("/proc/cpuinfo, which lists the processor's flags on Linux, is not here")
    assert use_bfloat16("auto", "cpu") == ("avx512_bf16" in flags.read_text().split())
