"""One scan from file to label map: this bundle beside MONAI's stock transforms and sliding window, same network.

``python -m benchmarks.speed [--image FILE] [--repeats N]``. Each variant runs in a process of its own, for its peak
memory: ``bundle`` as it comes, ``torch`` with that engine, ``stock``; without ``--image`` the MNI152 T1 at 1 mm is
segmented. Prints seconds, MiB, voxels/s and the ratios.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from math import prod
from typing import Any

from benchmarks.measure import (
    in_own_process,
    make_parser,
    positive,
    resident_peak_mib,
    sample_scan,
    seconds_of,
    silence,
)

ENGINES = {"bundle": "auto", "torch": "torch"}
VARIANTS = (*ENGINES, "stock")


def bundle_variant(folder: str, engine: str) -> Callable[[str], object]:
    """Return the job of ``make demo``: checks, segmentation, label map, volume table and picture."""
    from bundle.inference.segmenter import Segmenter

    return Segmenter(output_dir=folder, overwrite=True, device="cpu", engine=engine).segment


def stock_variant(folder: str) -> Callable[[str], object]:
    """Return the same network in MONAI's own transforms: logits of full size inverted, then argmax."""
    import torch
    from monai import transforms as mt
    from monai.inferers import SlidingWindowInferer

    from bundle.inference.segmenter import Segmenter

    segmenter = Segmenter(output_dir=folder, device="cpu")
    prepare = mt.Compose(
        [
            mt.LoadImaged("image"),
            mt.EnsureChannelFirstd("image"),
            mt.Orientationd("image", axcodes="RAS"),
            mt.Spacingd("image", pixdim=segmenter.parser.get_parsed_content("pixdim")),
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
    inferer = SlidingWindowInferer(segmenter.inferer.largest_roi, overlap=0.25, mode="gaussian")

    def segment(path: str) -> object:
        data = prepare({"image": path})
        with torch.inference_mode():
            data["pred"] = inferer(data["image"][None], segmenter.network)[0]
        return finish(data)

    return segment


def measure(variant: str, image: str, repeats: int) -> dict[str, float]:
    """Return the best wall time and the peak memory of this process."""
    silence()
    with tempfile.TemporaryDirectory() as folder:
        segment = stock_variant(folder) if variant == "stock" else bundle_variant(folder, ENGINES[variant])
        seconds = min(seconds_of(lambda: segment(image)) for _ in range(repeats))
    return {"seconds": seconds, "peak_mib": resident_peak_mib()}


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--image")
    parser.add_argument("--repeats", type=positive, default=2)
    return parser.parse_args()


def main() -> None:
    """Run the variants and print them side by side."""
    options = parse_arguments()
    import nibabel as nib

    with sample_scan(options.image) as image:
        scan: Any = nib.load(image)
        count = prod(scan.shape[:3])
        results = {variant: in_own_process(measure, variant, image, options.repeats) for variant in VARIANTS}
    print(f"{'variant':10}{'seconds':>10}{'peak MiB':>10}{'voxels/s':>12}")
    for variant, row in results.items():
        print(f"{variant:10}{row['seconds']:10.2f}{row['peak_mib']:10.0f}{count / row['seconds']:12.0f}")
    ours, stock = results["bundle"], results["stock"]
    print(f"stock / bundle: {stock['seconds'] / ours['seconds']:.2f} x the time, "
          f"{stock['peak_mib'] / ours['peak_mib']:.2f} x the memory")  # fmt: skip


if __name__ == "__main__":
    main()
