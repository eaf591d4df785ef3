"""Label map of a scan from a TorchScript archive, with torch, numpy and nibabel only.

``python examples/torchscript_labels.py model.ts scan.nii.gz labels.nii.gz``
"""

import json
import sys

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F


def labels(archive: str, image: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Return the model's codes, int16, of an image (X, Y, Z), axes towards right, anterior, superior; spacing in mm."""
    extra = {"inference.json": ""}
    network = torch.jit.load(archive, map_location="cpu", _extra_files=extra)
    config = json.loads(extra["inference.json"])
    size = [round(n * mm / wanted) for n, mm, wanted in zip(image.shape, spacing, config["pixdim"], strict=True)]
    grid = F.interpolate(torch.from_numpy(image.copy())[None, None], size=size, mode="trilinear")
    scaling = next(step for step in config["preprocessing"]["transforms"] if "ScaleIntensity" in step["_target_"])
    if "a_min" in scaling:
        low, high = scaling["a_min"], scaling["a_max"]
    else:
        low, high = np.percentile(grid, [scaling["lower"], scaling["upper"]])
    with torch.inference_mode():
        probabilities = network(((grid - low) / (high - low)).clamp(0, 1)).softmax(dim=1)
    channels = F.interpolate(probabilities, size=image.shape, mode="trilinear").argmax(dim=1)[0]
    return np.array(config["label_codes"], dtype=np.int16)[channels.numpy()]


if __name__ == "__main__":
    archive, source, target = sys.argv[1:]
    scan = nib.as_closest_canonical(nib.load(source))
    codes = labels(archive, scan.get_fdata(dtype=np.float32), scan.header.get_zooms())
    nib.Nifti1Image(codes, scan.affine).to_filename(target)
