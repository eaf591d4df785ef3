"""Loops over scans that ``benchmarks.end_to_end`` times beside ``scripts.segment``, as programs.

``python -m benchmarks.loops stock|in_turn OUTPUT_DIR SCAN [SCAN ...]`` prints the path of each scan once it is done.
``stock`` is what a user of MONAI would write for the same network: stock transforms, ``SlidingWindowInferer``,
``Invertd``, ``SaveImaged``, PyTorch as it comes. ``in_turn`` calls the bundle's segmenter for one scan after another.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from benchmarks.measure import CHECKPOINT, silence


def stock(folder: str) -> Callable[[str], object]:
    """Return the same network in MONAI's own transforms: logits of full size inverted, then argmax."""
    import torch
    from monai import transforms as mt
    from monai.inferers import SlidingWindowInferer

    from bundle.model import build_network, read_model

    network = build_network(read_model(CHECKPOINT.parent))
    network.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
    network.eval()
    model = json.loads(CHECKPOINT.with_name("model.json").read_text(encoding="utf-8"))
    prepare = mt.Compose(
        [
            mt.LoadImaged("image"),
            mt.EnsureChannelFirstd("image"),
            mt.Orientationd("image", axcodes="RAS"),
            mt.Spacingd("image", pixdim=model["pixdim"]),
            mt.ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True),
        ]
    )
    finish = mt.Compose(
        [
            mt.Activationsd("pred", softmax=True),
            mt.Invertd("pred", transform=prepare, orig_keys="image", nearest_interp=False),
            mt.AsDiscreted("pred", argmax=True),
            mt.SaveImaged("pred", output_dir=folder, output_dtype="int16", print_log=False),
        ]
    )
    inferer = SlidingWindowInferer(model["roi_size"], overlap=0.25, mode="gaussian")

    def segment(path: str) -> object:
        data = prepare({"image": path})
        with torch.inference_mode():
            data["pred"] = inferer(data["image"][None], network)[0]
        return finish(data)

    return segment


def in_turn(folder: str) -> Callable[[str], object]:
    """Return the bundle's segmenter, whose stages follow one another."""
    from bundle.lean import load_monai_alone

    load_monai_alone()

    from bundle.inference.segmenter import Segmenter

    return Segmenter(output_dir=folder, overwrite=True, device="cpu").segment


LOOPS = {"stock": stock, "in_turn": in_turn}


def main() -> None:
    """Run a loop."""
    silence()
    name, folder, *scans = sys.argv[1:]
    segment = LOOPS[name](folder)
    for scan in scans:
        segment(scan)
        print(scan, flush=True)


if __name__ == "__main__":
    main()
