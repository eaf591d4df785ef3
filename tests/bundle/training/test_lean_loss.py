"""The lean loss and the fused one against MONAI's, in float64: value, gradient, weights, ignored voxels."""

from __future__ import annotations

import pytest
import torch

from bundle.label_groups import IGNORED_CHANNEL
from bundle.training import FusedDiceCELoss, IgnoringDiceCELoss, LeanDiceCELoss, lean_loss

OURS = {
    "lean": LeanDiceCELoss,
    "fused": lambda weight=None: FusedDiceCELoss(weight, enabled=False),
    "compiled": lambda weight=None: FusedDiceCELoss(weight, backend="aot_eager"),
}


@pytest.fixture(params=OURS)
def ours(request):
    return OURS[request.param]


def both(ours, logits, target, weight=None):
    found = []
    for loss in (ours(weight), IgnoringDiceCELoss(softmax=True, to_onehot_y=True, weight=weight)):
        own = logits.clone().requires_grad_()
        value = loss(own, target)
        (2.5 * value).backward()
        found.append((value.detach(), own.grad))
    return found


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_equals_monai_in_value_and_gradient(monkeypatch, ours, batch, ignored):
    monkeypatch.setattr(lean_loss, "VOXELS", 50)  # several slabs, the last one smaller
    torch.manual_seed(batch)
    logits = 3 * torch.randn(batch, 7, 6, 5, 4, dtype=torch.float64)
    target = torch.randint(0, 6, (batch, 1, 6, 5, 4))  # one class is missing
    target[torch.rand(target.shape) < ignored] = IGNORED_CHANNEL
    (value, gradient), (expected, monai) = both(ours, logits, target)
    assert value == pytest.approx(float(expected), rel=1e-9)
    torch.testing.assert_close(gradient, monai, rtol=1e-8, atol=1e-12)


def test_weights_of_classes_are_those_of_the_cross_entropy(ours):
    torch.manual_seed(3)
    logits, target = torch.randn(1, 4, 5, 5, 5, dtype=torch.float64), torch.randint(0, 4, (1, 1, 5, 5, 5))
    weight = torch.tensor([0.2, 1.0, 3.0, 0.5], dtype=torch.float64)
    own = ours(weight)(logits, target) - ours()(logits, target)
    entropy = torch.nn.functional.cross_entropy
    expected = entropy(logits, target[:, 0], weight) - entropy(logits, target[:, 0])
    assert float(own) == pytest.approx(float(expected), rel=1e-9)


def test_nothing_that_counts_is_no_loss(ours):
    logits = torch.randn(1, 3, 4, 4, 4, requires_grad=True)
    loss = ours()(logits, torch.full((1, 1, 4, 4, 4), IGNORED_CHANNEL))
    loss.backward()
    assert float(loss.detach()) == 0
    assert (logits.grad == 0).all()


def test_uint8_channels_as_the_generator_gives_them(ours):
    logits, target = torch.randn(1, 3, 4, 4, 4), torch.randint(0, 3, (1, 1, 4, 4, 4))
    assert torch.equal(ours()(logits, target), ours()(logits, target.to(torch.uint8)))
