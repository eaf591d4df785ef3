"""Windows' logits with another axis innermost in memory: the same values, whatever the shape and number format."""

from __future__ import annotations

import pytest
import torch

from bundle.inference.sums import _depth_first


@pytest.mark.parametrize("shape", [(3, 8, 5, 7), (1, 8, 5, 7), (3, 1, 5, 7), (3, 8, 1, 1), (5, 2, 1, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [(0, 3, 1, 2), (0, 2, 1, 3), (0, 1, 2, 3)])
def test_logits_depth_first_are_the_same_and_lie_in_one_run_of_memory(shape, dtype, order):
    memory = [0, 0, 0, 0]
    for place, axis in enumerate(order):
        memory[axis] = shape[place]
    whole = torch.randn(memory[0] + 4, *memory[1:], dtype=dtype)
    whole[2, :1] = torch.nan
    logits = whole[2 : 2 + memory[0]].permute(order)
    found = _depth_first(logits)
    assert found.shape == shape
    assert found.is_contiguous()
    assert torch.equal(found.nan_to_num(7.0), logits.nan_to_num(7.0))
