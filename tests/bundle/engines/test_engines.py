"""Every engine computes the network, at any size, and says in one line what it cannot do."""

from __future__ import annotations

import os
import sys
import warnings

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from bundle.engines import EngineNetwork, choose, load_network
from bundle.engines.cache import cached, content_key
from bundle.errors import EngineWarning, ExportError, WeightsError
from bundle.forms.sidecar import write_sidecar
from bundle.machine import available_cores
from tests.tiny_network import save_weights, tiny_network

ENGINES = ("torch", "torchscript", "openvino", pytest.param("onnxruntime", marks=pytest.mark.slow))
HAS_BF16 = torch.cpu._is_avx512_bf16_supported()


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def engines(tiny_checkpoint, export_tiny, cache_dir):
    """Load an engine once for all tests; ONNX Runtime with the exported model, whose making takes ten seconds."""
    loaded = {}

    def load(name):
        if name not in loaded:
            checkpoint = export_tiny("onnx").path if name == "onnxruntime" else tiny_checkpoint
            loaded[name] = load_network(tiny_network(), checkpoint, name, "float32", cache_dir=cache_dir)
        return loaded[name]

    return load


@pytest.mark.parametrize("name", ENGINES)
def test_engine_gives_the_logits_of_the_network_at_any_size_and_batch(name, tiny_references, engines):
    engine = engines(name)
    assert isinstance(engine, EngineNetwork)
    assert (engine.engine, engine.precision) == (name, "float32")
    assert not engine.training
    assert engine.num_outputs == 0
    for image, expected in tiny_references:
        logits = engine(image)
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, expected, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_engine_gives_the_same_answer_twice(name, engines):
    image = torch.rand(1, 1, 24, 30, 17)
    first = engines(name)(image)
    kept = first.clone()
    engines(name)(torch.rand(1, 1, 24, 30, 17))
    assert torch.equal(first, kept), "a later call must not write into an earlier answer"
    assert torch.equal(engines(name)(image), kept)


@pytest.mark.parametrize("name", ENGINES)
def test_engine_takes_any_memory_layout(name, tiny, engines):
    image = torch.rand(1, 1, 32, 24, 16).permute(0, 1, 4, 3, 2)
    torch.testing.assert_close(engines(name)(image), tiny(image), atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_image_with_other_channels_is_refused_in_one_line(name, engines):
    with pytest.raises((ValueError, RuntimeError, torch.jit.Error), match=r"2, 16, 16, 16|\(B, 1, D, H, W\)") as caught:
        engines(name)(torch.rand(1, 2, 16, 16, 16))
    if isinstance(caught.value, ValueError):
        assert "\n" not in str(caught.value)


def test_stock_inferer_runs_an_engine(tiny, engines):
    inferer = SlidingWindowInferer(roi_size=(16, 16, 16), sw_batch_size=2, overlap=0.25)
    image = torch.rand(1, 1, 24, 20, 28)
    torch.testing.assert_close(inferer(image, engines("openvino")), inferer(image, tiny), atol=2e-4, rtol=1e-5)


def test_bfloat16_autocasts_and_returns_float32(tiny, tiny_checkpoint):
    image = torch.rand(1, 1, 16, 24, 16)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = tiny(image).float()
    engine = load_network(tiny_network(), tiny_checkpoint, "torch", "bfloat16")
    assert (engine.engine, engine.precision) == ("torch", "bfloat16")
    logits = engine(image)
    assert logits.dtype == torch.float32
    error, usual = ((found - tiny(image)).abs().mean() for found in (logits, autocast))
    assert 1e-4 < error < usual, "the first and the last layer stay in float32"


def test_choice_of_auto():
    assert choose("auto", "float32", "cpu", "model.pt").engine == "torch"
    assert choose("auto", "float32", "cuda", "model.pt").engine == "torch"
    assert choose("auto", "float32", "cpu", "model.ts").engine == "torchscript"
    assert choose("auto", "float32", "cpu", "model.onnx").engine == "onnxruntime"
    assert choose("openvino", "float32", "cpu", "model.onnx").engine == "openvino"
    assert choose("auto", "auto", "cpu", "model.pt").precision == ("bfloat16" if HAS_BF16 else "float32")
    assert choose("onnxruntime", "auto", "cpu", "model.pt").precision == "float32"


@pytest.mark.parametrize(
    ("engine", "precision", "checkpoint", "message"),
    [
        ("tensorrt", "auto", "model.pt", "engine: found 'tensorrt'; one of auto, torch, torchscript"),
        ("torch", "float16", "model.pt", "precision: found 'float16'; one of float32"),
        ("torch", "auto", "model.onnx", "model.onnx: is for the engine onnxruntime or openvino, found engine 'torch'"),
        ("onnxruntime", "bfloat16", "model.pt", "engine onnxruntime: found precision 'bfloat16'"),
    ],
)
def test_impossible_choices_are_refused(engine, precision, checkpoint, message):
    with pytest.raises(ValueError, match=message):
        choose(engine, precision, "cpu", checkpoint)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExportError) as caught:
        choose("openvino", "float32", "cpu", "model.pt")
    assert str(caught.value) == "engine openvino: found no openvino; pip install openvino -c constraints.txt"


def test_converted_model_is_kept_under_its_content(tiny, tiny_checkpoint, engines, cache_dir, tmp_path):
    engines("openvino")

    def kept():
        return {path: path.stat().st_mtime_ns for path in cache_dir.glob("*/model.xml")}

    before = kept()
    assert len(before) >= 1
    load_network(tiny_network(), tiny_checkpoint, "openvino", "float32", cache_dir=cache_dir)
    assert kept() == before
    assert list((cache_dir / "compiled").iterdir()), "OpenVINO's compiled model is kept too"

    other = tiny_network()
    engine = load_network(other, save_weights(other, tmp_path), "openvino", "float32", cache_dir=cache_dir)
    assert len(kept().keys() - before.keys()) == 1
    image = torch.rand(1, 1, 16, 16, 16)
    torch.testing.assert_close(engine(image), other(image), atol=2e-4, rtol=1e-5)
    assert not torch.allclose(engine(image), tiny(image), atol=1e-2)


def test_key_sees_what_the_state_dict_does_not(tiny, tiny_checkpoint):
    key = content_key(tiny, tiny_checkpoint, ["torch"])
    assert content_key(tiny_network(), tiny_checkpoint, ["torch"]) == key
    assert content_key(tiny_network(num_heads=1), tiny_checkpoint, ["torch"]) != key
    assert content_key(tiny, tiny_checkpoint, ["torch", "numpy"]) != key


def test_interrupted_conversion_leaves_nothing_in_the_cache(tmp_path):
    def fail(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, "key", "model.xml", fail)
    assert list(tmp_path.iterdir()) == []


def test_error_while_converting_is_no_matter_of_the_cache(tmp_path):
    def fail(path):
        raise OSError("no space left")

    with warnings.catch_warnings():
        warnings.simplefilter("error", EngineWarning)
        with pytest.raises(OSError, match="no space left"):
            cached(tmp_path, "key", "model.xml", fail)
    assert list(tmp_path.iterdir()) == []


def tiniest_network() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.GroupNorm(2, 4)).eval().requires_grad_(False)


def test_cache_that_cannot_be_written_is_done_without(tmp_path):
    network = tiniest_network()
    path = save_weights(network, tmp_path)
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(EngineWarning, match="cannot be written"):
        engine = load_network(network, path, "openvino", "float32", cache_dir=tmp_path / "file" / "cache")
    image = torch.rand(1, 1, 16, 16, 16)
    torch.testing.assert_close(engine(image), network(image), atol=2e-4, rtol=1e-5)


def test_onnx_runtime_takes_a_state_dict_too(tmp_path):
    network = tiniest_network()
    path = save_weights(network, tmp_path)
    engine = load_network(network, path, "onnxruntime", "float32", cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*/model.onnx"))) == 1
    image = torch.rand(2, 1, 11, 8, 9)
    torch.testing.assert_close(engine(image), network(image), atol=2e-4, rtol=1e-5)


class SizeDependent(nn.Module):
    """A network whose trace holds at one size only."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels = 1
        self.conv = nn.Conv3d(1, 2, 1)

    def forward(self, x):
        """Scale by a size that the tracer takes for a constant."""
        return self.conv(x) * int(np.prod(x.shape[2:]))


def test_wrong_conversion_is_refused(tmp_path):
    network = SizeDependent().eval().requires_grad_(False)
    path = save_weights(network, tmp_path)
    with pytest.raises(ExportError, match="the converted SizeDependent differs by"):
        load_network(network, path, "openvino", "float32", cache_dir=tmp_path / "cache")


def test_weights_of_another_network_are_refused_whatever_the_engine(tiny_checkpoint, tmp_path):
    for engine in ("torch", "openvino", "torchscript"):
        with pytest.raises(WeightsError, match="belongs to another network"):
            load_network(tiny_network(num_layers=2), tiny_checkpoint, engine, cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["model.ts", "model.onnx", "model.xml"])
def test_unusable_exported_file_is_a_one_line_error(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(ExportError, match=f"{name}: not found; python -m scripts.export makes it"):
        load_network(tiny_network(), path, cache_dir=tmp_path)
    path.write_bytes(b"no model")
    if name == "model.xml":
        path.with_suffix(".bin").write_bytes(b"no weights")
    with pytest.raises(ExportError, match=name) as caught:
        load_network(tiny_network(), path, cache_dir=tmp_path)
    assert "\n" not in str(caught.value)
    write_sidecar(path, {})
    path.write_bytes(b"another model")
    with pytest.raises(ExportError, match="the file is damaged or was replaced"):
        load_network(tiny_network(), path, cache_dir=tmp_path)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_cores_follow_the_affinity_of_the_process():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert available_cores() == 1
    finally:
        torch.set_num_threads(threads)


def test_loading_warns_of_nothing(tiny_checkpoint, cache_dir):
    with warnings.catch_warnings():
        warnings.simplefilter("error", EngineWarning)
        load_network(tiny_network(), tiny_checkpoint, "auto", "float32", cache_dir=cache_dir)
