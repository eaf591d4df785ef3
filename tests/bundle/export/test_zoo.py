"""What MONAI's model zoo checks of a bundle, and calls in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.bundle.export.test_consumers import read_json
from tests.conftest import ROOT


def test_model_zoo_finds_version_licence_and_model_card():
    metadata = read_json("configs/metadata.json")
    assert next(iter(metadata["changelog"])) == metadata["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", metadata["version"])
    assert metadata["supported_apps"] == {"monailabel": "0.8.5", "monai-deploy-app-sdk": "4.0.0"}
    for name in ("train", "evaluate", "inference", "multi_gpu_train", "metadata"):
        assert (ROOT / f"configs/{name}.json").is_file(), name
    assert (ROOT / "configs/logging.conf").is_file()
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt", "models/model.pt"):
        assert (ROOT / name).stat().st_size > 0, name
    assert not list(ROOT.glob("large_files.*"))


ZOO_CHECK = """
import sys
import torch
from monai.bundle import ckpt_export, verify_net_in_out
root, archive = sys.argv[1:]
meta, config = f"{root}/configs/metadata.json", f"{root}/configs/inference.json"
verify_net_in_out(net_id="network_def", meta_file=meta, config_file=config, bundle_root=root)
ckpt_export(net_id="network_def", filepath=archive, ckpt_file=f"{root}/models/model.pt", meta_file=meta,
            config_file=config, bundle_root=root)
torch.jit.load(archive)
"""


@pytest.mark.slow
def test_model_zoo_checks_pass_from_another_folder(run_elsewhere, tmp_path):
    run_elsewhere(tmp_path, "-c", ZOO_CHECK, ROOT, tmp_path / "verify_model.ts", path=[ROOT])


@pytest.mark.slow
def test_tensorrt_without_a_gpu_is_refused_in_one_line(tmp_path):
    options = {
        "net_id": "network_def", "config_file": ROOT / "configs/inference.json", "filepath": tmp_path / "model.ts",
        "meta_file": ROOT / "configs/metadata.json", "ckpt_file": ROOT / "models/model.pt",
    }  # fmt: skip
    command = [sys.executable, "-m", "monai.bundle", "trt_export"]
    command += [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    error = "error: trt_export: found no GPU that PyTorch can use; TensorRT builds its engine on one"
    assert [line for line in done.stderr.splitlines() if "rror" in line or "Traceback" in line] == [error]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_zoos_evaluating_is_the_run(run_elsewhere, small_scan, tmp_path):
    run_elsewhere(
        tmp_path, "monai.bundle", "run", "evaluating", "--config_file", ROOT / "configs/inference.json",
        "--datalist", [str(small_scan)], "--output_dir", tmp_path / "out", "--pixdim", [4.0] * 3, "--flags", None,
        "--precision", "float32", "--device", "cpu",
    )  # fmt: skip
    assert (tmp_path / "out/small/small_record.json").is_file()
