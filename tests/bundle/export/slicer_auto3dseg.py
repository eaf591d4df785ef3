"""Segments as 3D Slicer's MONAIAuto3DSeg runs a bundle: ``slicer_auto3dseg.py BUNDLE SCAN RESULT``.

Imitated from its source; unlike there, the scan is resampled to 3 mm, to be fast.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from monai.bundle import ConfigParser


def main() -> None:
    folder, scan, result = map(Path, sys.argv[1:])
    device = torch.device("cpu")
    parser = ConfigParser()
    parser.read_config((folder / "configs" / "inference.json").as_posix())
    overrides = {
        "bundle_root": folder.as_posix(),
        "dataset_dir": scan.parent.as_posix(),
        "output_dir": result.parent.as_posix(),
        "datalist": [scan.as_posix()],
        "window_device": "cpu",
        "device": device,
        "pixdim": [2.0, 2.0, 2.0],
    }
    for name, value in overrides.items():
        parser[name] = value
    parser["inferer"]["device"] = device
    parser["dataloader"]["num_workers"] = 0
    with torch.no_grad():
        parser.get_parsed_content("evaluator").run()
    newest = max(result.parent.rglob("*.nii.gz"), key=lambda path: path.stat().st_mtime)
    shutil.move(newest, result)


if __name__ == "__main__":
    main()
