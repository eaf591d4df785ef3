"""Every exported form computes the network at any size, carries its record, and is not written when it is wrong."""

from __future__ import annotations

import json
from copy import copy

import pytest
import torch

from bundle.errors import ExistsError, ExportError
from bundle.export import READERS
from bundle.forms import Source
from bundle.forms.aotinductor import find_compiler
from bundle.forms.sidecar import check_sidecar, sidecar_path
from bundle.provenance import sha256
from tests.tiny_network import BATCHES, CLASSES, tiny_network

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler is installed")
FORMS = [
    "torchscript",
    "openvino",
    pytest.param("program", marks=pytest.mark.slow),
    pytest.param("onnx", marks=pytest.mark.slow),
    pytest.param("aotinductor", marks=[pytest.mark.slow, needs_compiler]),
]


@pytest.mark.parametrize("form", FORMS)
def test_form_computes_the_network_at_any_size_and_carries_its_record(
    form, export_tiny, tiny_references, tiny_checkpoint
):
    made = export_tiny(form)
    run = READERS[form](made.path)
    for image, expected in tiny_references:
        with torch.no_grad():
            torch.testing.assert_close(run(image)[0], expected, atol=2e-4, rtol=1e-5)

    record = json.loads(sidecar_path(made.path).read_text())
    assert record == check_sidecar(made.path)
    assert record["form"] == made.form == form
    assert record["source"] == {"file": "model.pt", "sha256": sha256(tiny_checkpoint)}
    assert record["files"][made.path.name] == sha256(made.path)
    assert record["version"] == "1.2.3"
    assert record["versions"]["torch"] == torch.__version__
    assert record["input"]["shape"] == ["batch", 1, "depth", "height", "width"]
    assert record["input"]["legal_sizes"]["smallest"] == min(n for _, *size in BATCHES for n in size)
    assert record["output"]["shape"] == ["batch", CLASSES, "depth", "height", "width"]
    assert record["codes"] == list(range(CLASSES))
    assert ("opset" in record, "processor" in record) == (form == "onnx", form == "aotinductor")
    (parity,) = record["parity"]
    assert parity["image"] == "scan"
    assert parity["logit_difference"] < 1e-3
    assert parity["equal_labels"] > 0.9999
    assert not list(made.path.parent.glob(".unfinished*"))


@pytest.mark.slow
def test_onnx_names_its_axes_and_passes_the_checker(export_tiny):
    import onnx

    path = export_tiny("onnx").path
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    (image,), (logits,) = model.graph.input, model.graph.output
    shapes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (image, logits)]
    assert (image.name, logits.name) == ("image", "logits")
    assert shapes == [
        ["batch", 1, "depth", "height", "width"],
        ["batch", CLASSES, "depth", "height", "width"],
    ]
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [20]
    assert json.loads(sidecar_path(path).read_text())["opset"] == 20


def test_openvino_weights_stay_float32(export_tiny):
    text = export_tiny("openvino").path.read_text()
    assert 'element_type="f32"' in text
    assert 'element_type="f16"' not in text


def test_wrong_export_is_not_written(tiny_exporter, tmp_path):
    exporter = copy(tiny_exporter)
    exporter.made_of = Source(tiny_network(), tiny_exporter.made_of.metadata)  # other weights: a wrong conversion
    with pytest.raises(ExportError, match=r"openvino: logits of scan differ by .* are wanted") as caught:
        exporter.export("openvino", tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_existing_export_is_kept_unless_overwritten(tiny_exporter, tmp_path):
    (tmp_path / "model.ts").write_text("mine")
    with pytest.raises(ExistsError, match=r"model\.ts: exists already"):
        tiny_exporter.export("torchscript", tmp_path)
    assert (tmp_path / "model.ts").read_text() == "mine"
    tiny_exporter.export("torchscript", tmp_path, overwrite=True)
    check_sidecar(tmp_path / "model.ts")


def test_model_never_stands_beside_the_sidecar_of_another(tiny_exporter, tmp_path):
    (tmp_path / "model.ts").write_text("mine")
    (tmp_path / "model.ts.json").mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError, match=r"model\.ts\.json"):
        tiny_exporter.export("torchscript", tmp_path, overwrite=True)
    assert (tmp_path / "model.ts").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ts", "model.ts.json"]
