"""Segments as MonaiBundleInferenceOperator of MONAI Deploy App SDK 4.0 does: arguments BUNDLE SCAN OUT.npy.

A bundle is a TorchScript archive, or a folder with ``models/model.pt``. The SDK itself needs holoscan, which brings
CUDA along; what it does with either is imitated from its source.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose


def read_archive(archive: Path) -> ConfigParser:
    """Return metadata and config from the folder that has the archive's name."""
    parser = ConfigParser()
    with zipfile.ZipFile(archive) as entries, tempfile.TemporaryDirectory() as folder:
        parser.read_meta(json.loads(entries.read(f"{archive.stem}/extra/metadata.json")))
        parser.read_config(entries.extract(f"{archive.stem}/extra/inference.json", folder))
    parser.parse()
    return parser


def read_folder(folder: Path) -> ConfigParser:
    """Return metadata and config of a bundle's folder, from which its code is imported."""
    sys.path.insert(0, str(folder))
    parser = ConfigParser()
    parser.read_meta(json.loads((folder / "configs" / "metadata.json").read_text()))
    parser.read_config([folder / "configs" / "inference.json"])
    parser.parse()
    return parser


def load_from_folder(folder: Path, parser: ConfigParser, device: torch.device) -> torch.nn.Module:
    """Return the config's network, filled with the folder's weights."""
    assert not (folder / "models" / "model.ts").exists(), "the operator takes an archive first"
    network = parser.get_parsed_content("network")
    network.load_state_dict(torch.load(folder / "models" / "model.pt", map_location=device), strict=True)
    return network.eval()


def without_files(compose: Compose) -> Compose:
    """Return the transforms without those that read or write files, in place: ``Invertd`` holds the same object."""
    compose.transforms = tuple(
        transform
        for transform in compose.transforms
        if not any(name in type(transform).__name__ for name in ("LoadImage", "SaveImage"))
    )
    return compose


def as_dicom_volume(scan: Path) -> MetaTensor:
    """Return a scan (X, Y, Z) as the operator makes it from a DICOM series: no channel, RAS affine, other metadata."""
    image = nib.load(scan)
    meta = {
        "affine": image.affine.copy(),
        "original_affine": image.affine.copy(),
        "spatial_shape": np.asarray(image.shape),
        "original_channel_dim": "no_channel",
        "space": "RAS",
        "spacing": np.asarray(image.header.get_zooms()),
        "SeriesDescription": "T1",
    }
    return MetaTensor.ensure_torch_and_prune_meta(image.get_fdata(dtype=np.float32), meta)


def main() -> None:
    bundle, scan, out = map(Path, sys.argv[1:])
    parser = read_folder(bundle) if bundle.is_dir() else read_archive(bundle)
    formats = parser["_meta_"]["network_data_format"]
    (source,), (target,) = formats["inputs"], formats["outputs"]
    device = parser.get_parsed_content("device")
    inferer = parser.get_parsed_content("inferer")
    preprocessing = without_files(parser.get_parsed_content("preprocessing"))
    postprocessing = without_files(parser.get_parsed_content("postprocessing"))
    if bundle.is_dir():
        network = load_from_folder(bundle, parser, device)
    else:
        network = torch.jit.load(bundle, map_location=device).eval()
    with torch.no_grad():
        inputs = preprocessing({source: as_dicom_volume(scan)})
        logits = inferer(inputs=inputs[source][None].to(device), network=network)
        labels = postprocessing({target: logits[0], **inputs})[target]
    labels = labels.cpu().numpy() if isinstance(labels, torch.Tensor) else labels
    np.save(out, np.squeeze(labels, 0).astype(np.uint8))  # the SDK's Image is 8-bit


if __name__ == "__main__":
    main()
