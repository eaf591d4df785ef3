"""What comes out of what is no T1 scan of a whole head: each case is flagged, or as right as if nothing had been done.

``python -m benchmarks.nonsense SCAN [SCAN ...] [--checkpoint FILE] [--json FILE]``. The cases are made from each scan,
skull-stripped or not, and from its own result: images by intensity take the medians of its fluid, grey and white matter
from there. The Dice is that of the case's labels to the clean ones, the mean over the structures; the last column is
the least confidence of a structure in each region, of those that the flag ``low_confidence`` looks at.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.disturbances import reoriented
from benchmarks.measure import CHECKPOINT, ROOT, make_parser, met_or_missed, silence, write_json
from benchmarks.painted import CONTRASTS, Scan, grainy

if TYPE_CHECKING:
    from bundle.inference.segmenter import Segmenter

RIGHT = 0.87
"""Mean Dice to the clean result from which a case counts as right."""
CLEAN = "clean"


def mask(scan: Scan) -> Scan:
    """Leave the head's outline alone."""
    return scan.painted(scan.head.astype(np.float32))


def noise(scan: Scan) -> Scan:
    """Leave noise alone."""
    return scan.painted(np.abs(np.random.default_rng(0).normal(0, 100, scan.image.shape)))


def noise_in_the_head(scan: Scan) -> Scan:
    """Fill the head with noise as coarse as tissue."""
    field = gaussian_filter(np.random.default_rng(0).normal(size=scan.image.shape), 3)
    return scan.painted(np.where(scan.head, 500 + 200 * field / field.std(), 0).clip(min=0))


def ball(scan: Scan) -> Scan:
    """Scan a phantom: a ball of 80 mm radius of one liquid."""
    index = np.indices(scan.image.shape, dtype=np.float32)
    middle = (np.array(scan.image.shape) - 1) / 2
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)
    place = (index - middle.reshape(3, 1, 1, 1)) * spacing.reshape(3, 1, 1, 1)
    inside = np.linalg.norm(place, axis=0) < 80
    return scan.painted(np.where(inside, grainy(np.full(scan.image.shape, 1000.0), 20.0), 0))


def upside_down(scan: Scan) -> Scan:
    """Turn the head by 180 degrees about the axis from back to front."""
    return scan.painted(scan.image[::-1, :, ::-1])


def back_to_front(scan: Scan) -> Scan:
    """Turn the head by 180 degrees about the axis from below to above."""
    return scan.painted(scan.image[::-1, ::-1, :])


def one_hemisphere(scan: Scan) -> Scan:
    """Remove the left half."""
    return scan.where(np.broadcast_to(scan.along(0) > 0.5, scan.image.shape))


def lower_half(scan: Scan) -> Scan:
    """End the field of view in the middle of the brain."""
    last = int((scan.along(2) < 0.5).sum())
    return Scan(scan.image[:, :, :last], scan.codes[:, :, :last], scan.affine)


def front_half_empty(scan: Scan) -> Scan:
    """Remove the front half, and leave the field of view as it is."""
    return scan.where(np.broadcast_to(scan.along(1) < 0.5, scan.image.shape))


def slab(scan: Scan) -> Scan:
    """Leave 4 mm in the middle."""
    count = max(2, round(4 / np.linalg.norm(scan.affine[:3, 2])))
    first = int((scan.along(2) < 0.5).sum())
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, 2] * first
    return Scan(scan.image[:, :, first : first + count], scan.codes[:, :, first : first + count], affine)


def z_scored(scan: Scan) -> Scan:
    """Shift and scale to mean 0 and deviation 1 inside the head, 0 outside."""
    inside = scan.image[scan.image > 0]
    return scan.painted(np.where(scan.image > 0, (scan.image - inside.mean()) / inside.std(), 0))


CASES: Mapping[str, Callable[[Scan], Scan]] = {
    CLEAN: lambda scan: scan,
    **CONTRASTS,
    "mask": mask,
    "noise": noise,
    "noise in the head": noise_in_the_head,
    "phantom ball": ball,
    "upside down": upside_down,
    "back to front": back_to_front,
    "one hemisphere": one_hemisphere,
    "lower half of a head": lower_half,
    "front half empty": front_half_empty,
    "slab of 4 mm": slab,
    "z-scored": z_scored,
}
"""What is made of a scan; the clean one is to have no flag."""


def segment_cases(segmenter: Segmenter, path: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Segment what each case makes of a scan; return Dice to the clean result, flags and confidence, by case."""
    import nibabel as nib

    from benchmarks.overlap import dice_by_code, voxels
    from bundle.io import read_volume

    volume = read_volume(path)
    image, _, affine = reoriented((volume.data, volume.data, volume.affine), "RAS")
    clean = Scan(image.astype(np.float32), np.zeros(image.shape, dtype=np.int16), affine)
    results = {}
    for name, spoil in CASES.items():
        case = spoil(clean)
        scan = nib.Nifti1Image(case.image.astype(np.float32), case.affine)
        scan.header.set_xyzt_units("mm")
        scan.to_filename(folder / "scan.nii.gz")
        outputs = segmenter.segment(folder / "scan.nii.gz")
        found = voxels(outputs.label_map)
        if name == CLEAN:
            clean = replace(clean, codes=found)
            case = clean
        codes = np.setdiff1d(np.unique(case.codes), [0])
        flags = json.loads(outputs.record.read_text(encoding="utf-8"))["flags"]
        results[name] = {
            "flags": list(dict.fromkeys(flag["code"] for flag in flags)),
            "dice": float(np.nanmean(dice_by_code(found, case.codes, codes))),
            "confidence": least_confidence(outputs.volumes),
        }
        print_case(name, results[name])
    return results


def least_confidence(volumes: Path) -> dict[str, float]:
    """Return the least confidence of a structure in each region, of those that the flag looks at."""
    from bundle.labels import read_labels

    rule = json.loads((ROOT / "configs/flags.json").read_text(encoding="utf-8"))["low_confidence"]
    regions = {label.code: label.region for label in read_labels()}
    least: dict[str, float] = {}
    with volumes.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            region = regions[int(row["code"])]
            exempt = row["name"].removeprefix("Left-").removeprefix("Right-") in rule["exempt"]
            if region in rule["threshold"] and not exempt and float(row["volume_mm3"]) >= rule["smallest_mm3"]:
                least[region] = min(least.get(region, 1.0), float(row["confidence"]))
    return least


def is_as_wanted(name: str, result: Mapping[str, Any]) -> bool:
    """Tell whether a case is flagged, or right; the clean scan is to have no flag."""
    return not result["flags"] if name == CLEAN else bool(result["flags"]) or result["dice"] >= RIGHT


def print_case(name: str, result: Mapping[str, Any]) -> None:
    """Print one line."""
    met = met_or_missed(is_as_wanted(name, result))
    least = ", ".join(f"{region} {value:.2f}" for region, value in result["confidence"].items())
    print(f"  {name:22}{result['dice']:6.3f}  {met:8}{', '.join(result['flags']) or 'no flag'}; {least}", flush=True)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("scans", nargs="+", metavar="SCAN")
    parser.add_argument("--checkpoint", default=str(CHECKPOINT))
    parser.add_argument("--json")
    return parser.parse_args()


def main() -> None:
    """Segment every case of every scan, print the tables, write them as JSON where asked."""
    options = parse_arguments()
    from bundle.inference.segmenter import Segmenter

    silence()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        segmenter = Segmenter(output_dir=folder, checkpoint=options.checkpoint, overwrite=True)
        for path in options.scans:
            print(f"{Path(path).name}: case, Dice to the clean result, flags, least confidence by region")
            results[Path(path).name] = segment_cases(segmenter, path, Path(folder))
    if options.json:
        write_json(results, options.json)


if __name__ == "__main__":
    main()
