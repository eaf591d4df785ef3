"""One scan from file to label map: this bundle beside MONAI's stock transforms and sliding window, same network.

``python -m benchmarks.speed [--image FILE] [--repeats N]``. Each variant runs in a process of its own, for its peak
memory: PyTorch, the engine that comes, and OpenVINO where it is installed, in the precision that the processor has and
in float32; and ``stock``, the network in PyTorch as it comes. Without ``--image`` the MNI152 T1 at 1 mm is segmented.
Prints best seconds, peak MiB, voxels/s and what stock takes times each.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from math import prod
from typing import Any

from benchmarks.measure import (
    CHECKPOINT,
    describe_machine,
    in_own_process,
    make_parser,
    positive,
    resident_peak_mib,
    sample_scan,
    seconds_of,
    silence,
)

STOCK = "stock"
VARIANTS = {
    "bundle": ("auto", "auto"),
    "bundle, float32": ("auto", "float32"),
    "openvino": ("openvino", "auto"),
    "openvino, float32": ("openvino", "float32"),
}
"""Engine and precision of each variant but stock."""


def bundle_variant(folder: str, engine: str, precision: str) -> Callable[[str], object]:
    """Return the job of ``make demo``: checks, segmentation, label map, volume table and picture."""
    from bundle.inference.segmenter import Segmenter

    return Segmenter(output_dir=folder, overwrite=True, device="cpu", engine=engine, precision=precision).segment


def stock_variant(folder: str) -> Callable[[str], object]:
    """Return the same network in MONAI's own transforms: logits of full size inverted, then argmax."""
    import torch
    from monai import transforms as mt
    from monai.inferers import SlidingWindowInferer

    from bundle.inference.segmenter import Segmenter
    from bundle.io import load_weights

    segmenter = Segmenter(output_dir=folder, device="cpu", engine="torch", precision="float32")
    network = load_weights(segmenter.parser.get_parsed_content("network_def", instantiate=True), CHECKPOINT)
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
            data["pred"] = inferer(data["image"][None], network)[0]
        return finish(data)

    return segment


def measure(variant: str, image: str, repeats: int) -> dict[str, float]:
    """Return the best wall time and the peak memory of this process."""
    silence()
    with tempfile.TemporaryDirectory() as folder:
        segment = stock_variant(folder) if variant == STOCK else bundle_variant(folder, *VARIANTS[variant])
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

    from bundle.engines.choose import is_installed

    with sample_scan(options.image) as image:
        scan: Any = nib.load(image)
        count = prod(scan.shape[:3])
        variants = [name for name, (engine, _) in VARIANTS.items() if is_installed(engine)]
        results = {variant: in_own_process(measure, variant, image, options.repeats) for variant in (*variants, STOCK)}
    stock = results[STOCK]
    print(describe_machine())
    print(f"{'variant':20}{'seconds':>10}{'peak MiB':>10}{'voxels/s':>12}{'stock: time':>13}{'memory':>8}")
    for variant, row in results.items():
        ratios = f"{stock['seconds'] / row['seconds']:11.2f} x{stock['peak_mib'] / row['peak_mib']:6.2f} x"
        print(f"{variant:20}{row['seconds']:10.2f}{row['peak_mib']:10.0f}{count / row['seconds']:12.0f}{ratios}")


if __name__ == "__main__":
    main()
