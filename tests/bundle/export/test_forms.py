"""Every exported form computes the network at any size, carries its record, and is not written when it is wrong."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from bundle.engines import load_network
from bundle.engines.networks import OpenVinoNetwork
from bundle.errors import ExportError
from bundle.export import FORMS, Exporter
from bundle.forms.portable import SteppedGroupNorm, portable
from bundle.forms.program import find_compiler
from bundle.forms.sidecar import check_sidecar, sidecar_path
from bundle.provenance import sha256
from tests.tiny_network import BATCHES, CLASSES, save_weights, tiny_network

METADATA = {"name": "tiny", "version": "1.2.3"}
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler is installed")
SOME_FORMS = ("torchscript", "openvino")
SLOW_FORMS = [pytest.param(form, marks=pytest.mark.slow) for form in ("program", "onnx")]
COMPILED_FORMS = [pytest.param("aotinductor", marks=[pytest.mark.slow, needs_compiler])]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_weights(tiny_network(), tmp_path_factory.mktemp("weights"))


def make_exporter(checkpoint, network=None):
    network = network or load_network(tiny_network(), checkpoint, "torch", "float32").network
    images = {"scan": torch.rand(1, 1, 24, 33, 18)}
    return Exporter(network, images, checkpoint, METADATA, {"note": "config"}, range(CLASSES), [1.5] * 3)


@pytest.fixture(scope="module")
def exporter(checkpoint):
    return make_exporter(checkpoint)


@pytest.mark.parametrize("form", [*SOME_FORMS, *SLOW_FORMS, *COMPILED_FORMS])
def test_form_computes_the_network_at_any_size_and_carries_its_record(form, exporter, checkpoint, tmp_path):
    made = exporter.export(form, tmp_path)
    _, _, read = FORMS[form]
    run = read(made.path)
    for batch, *size in BATCHES:
        image = torch.rand(batch, 1, *size)
        with torch.no_grad():
            found = run(image)
            found = found[0] if isinstance(found, (list, tuple)) else found
            torch.testing.assert_close(found, exporter.network(image), atol=2e-4, rtol=1e-5)

    record = json.loads(sidecar_path(made.path).read_text())
    assert record == check_sidecar(made.path)
    assert record["form"] == form
    assert record["source"] == {"file": "model.pt", "sha256": sha256(checkpoint)}
    assert record["files"][made.path.name] == sha256(made.path)
    assert record["version"] == "1.2.3"
    assert record["versions"]["torch"] == torch.__version__
    assert record["input"]["shape"] == ["batch", 1, "depth", "height", "width"]
    assert record["input"]["legal_sizes"]["smallest"] == min(n for _, *size in BATCHES for n in size)
    assert record["output"]["shape"] == ["batch", CLASSES, "depth", "height", "width"]
    assert record["codes"] == list(range(CLASSES))
    (parity,) = record["parity"]
    assert parity["image"] == "scan"
    assert parity["logit_difference"] < 1e-3
    assert parity["equal_labels"] > 0.9999
    assert not list(tmp_path.glob(".unfinished*"))


@pytest.mark.slow
def test_onnx_names_its_axes_and_passes_the_checker(exporter, tmp_path):
    import onnx

    model = onnx.load(str(exporter.export("onnx", tmp_path).path))
    onnx.checker.check_model(model, full_check=True)
    (image,), (logits,) = model.graph.input, model.graph.output
    shapes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (image, logits)]
    assert (image.name, logits.name) == ("image", "logits")
    assert shapes == [
        ["batch", 1, "depth", "height", "width"],
        ["batch", CLASSES, "depth", "height", "width"],
    ]
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [20]
    assert json.loads((tmp_path / "model.onnx.json").read_text())["opset"] == 20


def test_openvino_weights_stay_float32(exporter, tmp_path):
    made = exporter.export("openvino", tmp_path)
    text = made.path.read_text()
    assert 'element_type="f32"' in text
    assert 'element_type="f16"' not in text


def test_wrong_export_is_not_written(checkpoint, tmp_path):
    exporter = make_exporter(checkpoint)
    exporter.__dict__["portable"] = portable(tiny_network())  # other weights: a conversion that went wrong
    with pytest.raises(ExportError, match=r"openvino: logits of scan differ by .* are wanted") as caught:
        exporter.export("openvino", tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_existing_export_is_kept_unless_overwritten(exporter, tmp_path):
    (tmp_path / "model.ts").write_text("mine")
    with pytest.raises(FileExistsError, match=r"model\.ts: exists already"):
        exporter.export("torchscript", tmp_path)
    assert (tmp_path / "model.ts").read_text() == "mine"
    exporter.export("torchscript", tmp_path, overwrite=True)
    check_sidecar(tmp_path / "model.ts")


@pytest.mark.parametrize("shape", [(2, 8, 5, 6, 7), (3, 4, 9, 2), (1, 6, 11)])
def test_stepped_group_norm_is_group_norm(shape):
    norm = nn.GroupNorm(2, shape[1]).double()
    nn.init.uniform_(norm.weight, -2, 2)
    nn.init.uniform_(norm.bias, -2, 2)
    x = torch.randn(shape, dtype=torch.float64) * 3 + 5
    torch.testing.assert_close(SteppedGroupNorm(norm)(x), norm(x), atol=1e-12, rtol=0)


def test_portable_copies_and_leaves_the_network_alone():
    network = tiny_network()
    copied = portable(network)
    assert any(isinstance(module, SteppedGroupNorm) for module in copied.modules())
    assert not any(isinstance(module, nn.GroupNorm) for module in copied.modules())
    assert any(isinstance(module, nn.GroupNorm) for module in network.modules())
    image = torch.rand(1, 1, 17, 24, 16)
    torch.testing.assert_close(copied(image), network(image), atol=1e-4, rtol=1e-5)


@pytest.mark.slow
def test_stepped_group_norm_is_why_a_large_window_agrees(tmp_path):
    from bundle.forms.openvino import convert_openvino, write_openvino

    network = nn.Sequential(nn.Conv3d(1, 16, 1), nn.GroupNorm(2, 16)).eval().requires_grad_(False)
    image = torch.rand(1, 1, 96, 112, 96)
    image[:, :, :40] = 0  # air
    exact = network.double()(image.double())
    network.float()
    errors = []
    for form in (network, portable(network)):
        write_openvino(convert_openvino(form), tmp_path / "model.xml")
        errors.append((OpenVinoNetwork(tmp_path / "model.xml", bfloat16=False)(image) - exact).abs().max().item())
    assert errors[1] < 2e-5
    assert errors[1] < errors[0] / 3
