"""How much of a segmentation is left when a scan's intensities are disturbed: Dice to the labels of the scan itself,
with the bundle's rules and with two percentiles of all voxels alone.

``python -m benchmarks.intensities [SCAN ...] [--only PATTERN] [--pixdim MM] [--json FILE]``; scans are stripped, with a
background of 0; without any the MNI152 T1 at 1 mm is used. The mean is over the 31 structures other than CSF.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import CHECKPOINT, make_parser, sample_scan, silence, write_json

if TYPE_CHECKING:
    from monai.transforms.compose import Compose
    from numpy.typing import NDArray

    from bundle.inference.segmenter import Segmenter

CSF = 24
"""Of a stripped scan only what the stripping left of it."""


def stock_rules(preprocessing: Compose) -> Compose:
    """Return a preprocessing with MONAI's percentiles in place of the bundle's rules for intensities."""
    from monai.transforms import Compose, ScaleIntensityRangePercentilesd

    from bundle.inference import PlaceBackgroundd, ScaleIntensitiesd

    plain = ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True)
    kept = [step for step in preprocessing.transforms if not isinstance(step, PlaceBackgroundd)]
    return Compose([plain if isinstance(step, ScaleIntensitiesd) else step for step in kept])


def labels_of(segmenter: Segmenter, data: Mapping[str, Any]) -> NDArray[Any]:
    """Return the codes of a preprocessed scan."""
    return segmenter.labels(data, segmenter.logits(data))


def score(segmenter: Segmenter, scan: str, only: str, folder: Path, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each condition with the Dice by the bundle's rules and by the stock ones, and the rules that acted."""
    import nibabel as nib
    import numpy as np
    import torch

    from benchmarks.disturbances import INTENSITIES
    from benchmarks.overlap import dice_by_code
    from bundle.labels import read_labels

    codes = [label.code for label in read_labels()[1:] if label.code != CSF]
    image: Any = nib.load(scan)
    whole = labels_of(segmenter, segmenter.preprocessing({"image": scan}))
    stock = stock_rules(segmenter.preprocessing)
    for name, change in INTENSITIES.items():
        if not re.search(only, name):
            continue
        disturbed, reference, affine = change((image.get_fdata(dtype=np.float32), whole, image.affine), seed)
        changed = nib.Nifti1Image(disturbed.astype(np.float32), affine)
        changed.header.set_xyzt_units("mm")
        path = folder / "scan.nii"
        changed.to_filename(path)
        ours, plain = (steps({"image": str(path)}) for steps in (segmenter.preprocessing, stock))
        same = ours["image"].shape == plain["image"].shape and bool(torch.equal(ours["image"], plain["image"]))
        ruled = labels_of(segmenter, ours)
        found = {"rules": ruled, "stock": ruled if same else labels_of(segmenter, plain)}
        dice = {key: float(np.nanmean(dice_by_code(labels, reference, codes))) for key, labels in found.items()}
        yield name, {**dice, "acted": _acted(ours["image"].meta)}


def _acted(meta: Mapping[str, Any]) -> str:
    background = "background" if "background_value" in meta else ""
    return " ".join(filter(None, (background, "inside" if meta["scale_source"] == "inside" else "")))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("scans", nargs="*", metavar="SCAN")
    parser.add_argument("--only", default="", metavar="PATTERN", help="conditions whose name this fits")
    parser.add_argument("--pixdim", type=float, default=1.0, metavar="MM", help="edge of the network's voxels")
    parser.add_argument("--checkpoint", default=str(CHECKPOINT))
    parser.add_argument("--json")
    return parser.parse_args()


def main() -> None:
    """Print a row for each scan and condition, then the means, and write them as JSON where asked."""
    options = parse_arguments()
    import numpy as np

    from bundle.inference.segmenter import Segmenter

    silence()
    rows: dict[str, dict[str, Any]] = {}
    print(f"{'scan':20}{'condition':28}{'rules':>8}{'stock':>8}  acted")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        scans = options.scans or [stack.enter_context(sample_scan(None))]
        segmenter = Segmenter(output_dir=folder, checkpoint=options.checkpoint, pixdim=[options.pixdim] * 3)
        for seed, scan in enumerate(scans):
            name = Path(scan).name
            rows[name] = {}
            for condition, row in score(segmenter, scan, options.only, Path(folder), seed):
                rows[name][condition] = row
                print(f"{name[:19]:20}{condition:28}{row['rules']:8.3f}{row['stock']:8.3f}  {row['acted']}", flush=True)
    for condition in next(iter(rows.values())):
        means, lowest = ([f([scan[condition][key] for scan in rows.values()]) for key in ("rules", "stock")]
                         for f in (np.mean, np.min))  # fmt: skip
        print(f"{'mean, (lowest)':20}{condition:28}{means[0]:8.3f}{means[1]:8.3f}  ({lowest[0]:.3f}, {lowest[1]:.3f})")
    if options.json:
        write_json(rows, options.json)


if __name__ == "__main__":
    main()
