"""Segments as BundleInferTask of MONAI Label 0.8 does: ``monai_label.py BUNDLE SCAN [SCAN ...] OUT.npy``.

MONAI Label needs torchvision and sam2; what it does with a bundle's folder is imitated from its source.
Unlike there, the scan is resampled to 3 mm, to be fast.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigItem, ConfigParser
from monai.transforms import LoadImaged, Resize, SaveImaged


class InferTask:
    """The parts of a bundle that one request after another uses."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        self.config = ConfigParser()
        self.config.read_config(str(folder / "configs" / "inference.json"))
        self.config.config.update({"bundle_root": str(folder)})
        self.config.config["use_click"] = False
        self.config.config["pixdim"] = [2.0, 2.0, 2.0]
        self.network = self.config.get_parsed_content("network_def")
        self.network.load_state_dict(torch.load(folder / "models" / "model.pt", map_location="cpu"), strict=False)
        self.network.eval()
        formats = json.loads((folder / "configs" / "metadata.json").read_text())["network_data_format"]
        self.image, self.pred = next(iter(formats["inputs"])), next(iter(formats["outputs"]))

    def part(self, name: str):
        """Return a part of the config, on the device that the request asks for."""
        self.config.config.update({"device": "cpu"})
        if self.config.ref_resolver.items.get("device"):
            self.config.ref_resolver.items["device"] = ConfigItem(config="cpu", id="device")
        return self.config.get_parsed_content(name)

    def segment(self, scan: Path) -> np.ndarray:
        """Return what MONAI Label writes for a scan, without its channel."""
        data = {self.image: str(scan), "image_path": str(scan), "device": "cpu"}
        for transform in self.part("preprocessing").transforms:
            if isinstance(transform, LoadImaged):
                transform._loader.image_only = False
            data = transform(data)
        with torch.no_grad():
            data[self.pred] = self.part("inferer")(data[self.image][None], self.network)[0]
        for transform in self.part("postprocessing").transforms:
            if not isinstance(transform, SaveImaged):
                data = transform(data)
        return self.restored(data[self.pred], data[self.image].meta["spatial_shape"])

    @staticmethod
    def restored(labels, spatial_shape) -> np.ndarray:
        """Resize to the scan's shape, should it differ, as the last transform of MONAI Label does."""
        size = labels.shape[1:]  # a channel is taken for granted
        wanted = list(spatial_shape)[-len(size) :]
        if list(size) != wanted:
            labels = Resize(spatial_size=wanted, mode="nearest")(labels)
        labels = np.asarray(labels)
        return labels[0] if labels.ndim > 3 and labels.shape[0] == 1 else labels


def main() -> None:
    folder, *scans, out = map(Path, sys.argv[1:])
    task = InferTask(folder)
    np.save(out, np.stack([task.segment(scan) for scan in scans]))


if __name__ == "__main__":
    main()
