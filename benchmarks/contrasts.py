"""Dice of real T1 scans that are painted in other contrasts, against the manual labels.

``python -m benchmarks.contrasts DATASET_DIR [--model FOLDER] [--json FILE]``; DATASET_DIR holds NAME_T1.nii.gz with
NAME_labels.nii.gz (code 255 is not scored). A scan is painted through the medians of its fluid, grey and white matter
inside the manual labels, so that its texture stays.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import ROOT, make_parser, met_or_missed, silence, write_json

if TYPE_CHECKING:
    from bundle.inference.segmenter import Segmenter

AS_THEY_ARE = "as they are"
PAINTED = ("inverted", "T2-like", "FLAIR-like", "PD-like", "CT-like")
"""Names in ``benchmarks.painted.CONTRASTS``."""
WANTED = ("inverted", "T2-like", "FLAIR-like")
BAR = 0.75
"""Mean Dice that the wanted ones should reach with weights of any contrast."""


def score_contrasts(segmenter: Segmenter, pairs: list[dict[str, str]], folder: Path) -> dict[str, dict[str, Any]]:
    """Segment every scan in every contrast; return mean Dice of each scan, Dice by structure and flags, by contrast."""
    import nibabel as nib
    import numpy as np
    from tqdm import tqdm

    from benchmarks.overlap import IGNORED_CODE, UNSCORED_CODES, dice_by_code, voxels
    from benchmarks.painted import CONTRASTS, Scan
    from bundle.labels import read_labels

    table = [label for label in read_labels()[1:] if label.code not in UNSCORED_CODES]
    codes, names = [label.code for label in table], [label.name for label in table]
    results: dict[str, dict[str, Any]] = {
        name: {"dice": [], "structures": [], "flags": []} for name in (AS_THEY_ARE, *PAINTED)
    }
    with tqdm(total=len(pairs) * len(results), unit="scan") as bar:
        for files in pairs:
            image: Any = nib.load(files["image"])
            labels = voxels(files["label"]).astype(np.int16)
            scan, scored = Scan(image.get_fdata(dtype=np.float32), labels, image.affine), labels != IGNORED_CODE
            for name in results:
                shown = scan if name == AS_THEY_ARE else CONTRASTS[name](scan)
                painted = nib.Nifti1Image(shown.image.astype(np.float32), image.affine)
                painted.header.set_xyzt_units("mm")
                painted.to_filename(folder / "scan.nii.gz")
                outputs = segmenter.segment(folder / "scan.nii.gz")
                dice = dice_by_code(voxels(outputs.label_map)[scored], labels[scored], codes)
                flags = json.loads(outputs.record.read_text(encoding="utf-8"))["flags"]
                results[name]["dice"].append(float(np.nanmean(dice)))
                results[name]["structures"].append(dice)
                results[name]["flags"] += dict.fromkeys(flag["code"] for flag in flags)
                bar.update()
    for result in results.values():
        result["structures"] = dict(zip(names, np.nanmean(result["structures"], axis=0).tolist(), strict=True))
    return results


def print_contrasts(results: dict[str, dict[str, Any]]) -> None:
    """Print a row for each contrast: the mean Dice, that of each scan, the lowest structures, and the flags."""
    print(f"{'contrast':14}{'mean Dice':>10}  bar          scans, lowest structures, flags")
    for name, result in results.items():
        mean = sum(result["dice"]) / len(result["dice"])
        bar = f"{BAR} {met_or_missed(mean >= BAR)}" if name in WANTED else ""
        lowest = sorted(result["structures"], key=result["structures"].__getitem__)[:3]
        structures = ", ".join(f"{structure} {result['structures'][structure]:.2f}" for structure in lowest)
        counts = {code: result["flags"].count(code) for code in dict.fromkeys(result["flags"])}
        flags = ", ".join(f"{code} {count}" for code, count in counts.items()) or "no flag"
        scans = " ".join(f"{dice:.3f}" for dice in result["dice"])
        print(f"{name:14}{mean:10.3f}  {bar:11}  {scans}; {structures}; {flags}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("dataset_dir")
    parser.add_argument("--model", default=str(ROOT / "models"))
    parser.add_argument("--json")
    return parser.parse_args()


def main() -> None:
    """Score every contrast, print the table, write it as JSON where asked."""
    options = parse_arguments()
    from bundle.datasets import find_pairs
    from bundle.inference.segmenter import Segmenter

    silence()
    pairs = find_pairs(options.dataset_dir)
    with tempfile.TemporaryDirectory() as folder:
        segmenter = Segmenter(output_dir=folder, model=options.model, overwrite=True)
        results = score_contrasts(segmenter, pairs, Path(folder))
    print_contrasts(results)
    if options.json:
        write_json(results, options.json)


if __name__ == "__main__":
    main()
