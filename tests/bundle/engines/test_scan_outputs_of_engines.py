"""Outputs for the whole scan come out of every engine and every exported form, beside the same logits."""

from __future__ import annotations

import json

import pytest
import torch

from bundle.engines import load_network
from bundle.errors import ExportError
from bundle.export import READERS, Exporter
from bundle.export.parity import Parity
from bundle.forms import Source
from tests.bundle.conftest import FAST_COMPILATION
from tests.tiny_network import CLASSES, save_weights, tiny_network

OUTPUTS = {"num_outputs": 3, "global_pool": "map", "bounded_outputs": True}
FORMS = ("torchscript", "openvino", "program", "onnx", "aotinductor")
SLOW = {"program", "onnx", "aotinductor", "onnxruntime"}
HAS_BF16 = torch.cpu._is_avx512_bf16_supported()


def marked(names):
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


@pytest.fixture(scope="module")
def judging():
    torch.manual_seed(5)
    network = tiny_network(**OUTPUTS)
    torch.nn.init.normal_(network.scan_head.linear.weight, std=2.0)
    return network


@pytest.fixture(scope="module")
def checkpoint(judging, tmp_path_factory):
    return save_weights(judging, tmp_path_factory.mktemp("judging"))


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def exporter(judging, checkpoint):
    metadata, images = {"name": "tiny", "version": "1.2.3"}, {"scan": torch.rand(1, 1, 24, 33, 18)}
    return Exporter(judging, images, checkpoint, metadata, {"note": "config"}, range(CLASSES), [1.5] * 3)


def pairs(judging):
    images = [torch.rand(*shape) for shape in ((1, 1, 16, 24, 16), (2, 1, 17, 30, 25))]
    return [(image, *judging.forward_with_outputs(image)) for image in images]


@pytest.mark.parametrize("name", marked(("torch", "torchscript", "openvino", "onnxruntime")))
def test_engine_gives_outputs_beside_its_logits(name, judging, checkpoint, cache_dir):
    engine = load_network(tiny_network(**OUTPUTS), checkpoint, name, "float32", cache_dir=cache_dir)
    assert engine.num_outputs == 3
    for image, logits, outputs in pairs(judging):
        found = engine.forward_with_outputs(image)
        torch.testing.assert_close(found[0], logits, atol=2e-4, rtol=1e-5)
        torch.testing.assert_close(found[1], outputs, atol=2e-5, rtol=0)
        torch.testing.assert_close(engine(image), logits, atol=2e-4, rtol=1e-5)


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")
@pytest.mark.parametrize("name", ["torch", "torchscript", "openvino"])
def test_bfloat16_moves_outputs_little(name, judging, checkpoint, cache_dir):
    engine = load_network(tiny_network(**OUTPUTS), checkpoint, name, "bfloat16", cache_dir=cache_dir)
    for image, _, outputs in pairs(judging):
        found = engine.forward_with_outputs(image)[1]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, outputs, atol=0.05, rtol=0)


def test_ensemble_gives_the_mean_of_its_members_outputs(judging, checkpoint, tmp_path):
    other = tiny_network(**OUTPUTS)
    ensemble = load_network(tiny_network(**OUTPUTS), [checkpoint, save_weights(other, tmp_path)], "torch", "float32")
    image, logits, outputs = pairs(judging)[0]
    others = other.forward_with_outputs(image)
    found = ensemble.forward_with_outputs(image)
    assert ensemble.num_outputs == 3
    torch.testing.assert_close(found[1], (outputs + others[1]) / 2, atol=1e-5, rtol=0)
    mean = (logits.softmax(1) + others[0].softmax(1)) / 2
    torch.testing.assert_close(found[0].softmax(1), mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(ensemble(image), found[0])


def test_ensemble_with_a_member_without_outputs_has_none(checkpoint, tiny_checkpoint):
    networks = torch.nn.ModuleList([tiny_network(**OUTPUTS), tiny_network()])
    assert load_network(networks, [checkpoint, tiny_checkpoint], "torch", "float32").num_outputs == 0


@pytest.mark.parametrize("form", marked(FORMS))
def test_exported_form_has_both_and_is_compared_in_both(form, judging, exporter, tmp_path):
    with torch._inductor.config.patch(FAST_COMPILATION):
        made = exporter.export(form, tmp_path)
    assert made.parity[0].output_difference < 1e-4
    record = json.loads((tmp_path / f"{made.path.name}.json").read_text())
    assert record["scan_outputs"] == {"name": "outputs", "dtype": "float32", "shape": ["batch", 3]}
    run = READERS[form](made.path)
    for image, *expected in pairs(judging):
        with torch.no_grad():
            found = run(image)
        assert len(found) == 2
        torch.testing.assert_close(found[0], expected[0], atol=2e-4, rtol=1e-5)
        torch.testing.assert_close(found[1], expected[1], atol=2e-5, rtol=0)
    if form in ("torchscript", "openvino", "onnx"):
        engine = load_network(tiny_network(), made.path, "auto", "float32")
        assert engine.num_outputs == 3
        torch.testing.assert_close(engine.forward_with_outputs(image)[1], expected[1], atol=2e-5, rtol=0)


def test_export_whose_outputs_differ_is_refused(judging, exporter, tmp_path):
    torch.manual_seed(6)
    other = tiny_network(**OUTPUTS)
    trunk = {name: value for name, value in judging.state_dict().items() if not name.startswith("scan_head")}
    other.load_state_dict(trunk, strict=False)
    exporter.expected  # noqa: B018 -- of the network itself
    made_of, exporter.made_of = exporter.made_of, Source(other, exporter.made_of.metadata)
    try:
        with pytest.raises(ExportError, match=r"outputs for the scan by .* are wanted"):
            exporter.export("openvino", tmp_path)
    finally:
        exporter.made_of = made_of
    assert list(tmp_path.iterdir()) == []


def test_a_form_without_the_outputs_is_infinitely_far_off():
    logits, outputs = torch.rand(1, 2, 3, 3, 3), torch.rand(1, 3)
    parity = Parity.of("scan", (logits, outputs), (logits,), logits.shape)
    assert not parity.holds
    assert Parity.of("scan", (logits, outputs), (logits, outputs), logits.shape).holds
    assert Parity.of("scan", (logits,), (logits,), logits.shape).output_difference is None
