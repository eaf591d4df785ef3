"""The TorchScript archive: what is in it, and that it is written whole or not at all."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from monai.data import load_net_with_metadata

from bundle.errors import ExportError
from bundle.forms import torchscript, write_torchscript
from tests.conftest import ROOT
from tests.tiny_network import tiny_network


def test_monai_reads_network_metadata_and_config_from_the_archive(tiny, tmp_path):
    metadata, config = (json.loads((ROOT / "configs" / name).read_text()) for name in ("metadata.json", "deploy.json"))
    archive = tmp_path / "model.ts"
    write_torchscript(tiny, archive, metadata, config)
    loaded, found, extra = load_net_with_metadata(str(archive), more_extra_files=("inference.json",))
    assert found == metadata
    assert json.loads(extra["inference.json"]) == config
    image = torch.rand(1, 1, 40, 24, 33)
    with torch.inference_mode():
        assert (loaded(image) - tiny(image)).abs().max() < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["model.ts"]
    with zipfile.ZipFile(archive) as entries:
        assert {name.split("/")[0] for name in entries.namelist()} == {"model"}, "Deploy App SDK looks below the name"


def test_failed_write_keeps_the_old_archive_and_nothing_else(tiny, tmp_path, monkeypatch):
    path = tmp_path / "model.ts"
    path.write_bytes(b"old")

    def fill_the_disk(scripted, name, **_):
        Path(name).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torchscript, "save_net_with_metadata", fill_the_disk)
    with pytest.raises(OSError, match="No space"):
        write_torchscript(tiny, path, {}, {})
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("model.ts", b"old")]


def test_bad_arguments_are_refused_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(ExportError, match=r"model\.pt: found the suffix '\.pt'; a file NAME\.ts is wanted"):
        write_torchscript(tiny, tmp_path / "model.pt", {}, {})
    with pytest.raises(ValueError, match="found training mode"):
        write_torchscript(tiny_network().train(), tmp_path / "model.ts", {}, {})
    with pytest.raises(TypeError, match="JSON"):
        write_torchscript(tiny, tmp_path / "new" / "model.ts", {}, {"device": torch.device("cpu")})
    assert list(tmp_path.iterdir()) == []
