"""Dice against manual labels of real scans, and against nilearn's tissue maps of the MNI152 T1.

``python -m benchmarks.anatomy [--dataset-dir DIR] [--checkpoint FILE] [--json FILE]``; DIR holds NAME_T1.nii.gz with
NAME_labels.nii.gz (code 255 is not scored there). Without it only the MNI152 T1 is scored.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np

from bundle.labels import read_labels
from bundle.segmenter import Segmenter
from bundle.training import find_pairs
from scripts.sample_volume import write_sample_volume

IGNORED_VOXELS = 255
UNSCORED_CODES = (24,)  # drawn in part only in the manual labels
GREY_CODES = (3, 42, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58)
WHITE_CODES = (2, 41, 7, 46)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice overlap of two masks, NaN when both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def score_scans(segmenter: Segmenter, dataset_dir: str) -> dict[str, dict[str, float]]:
    """Return the Dice of each structure and scan."""
    structures = [label for label in read_labels()[1:] if label.code not in UNSCORED_CODES]
    scores: dict[str, dict[str, float]] = {label.name: {} for label in structures}
    for pair in find_pairs(dataset_dir):
        predicted = np.asarray(nib.load(segmenter.segment(pair["image"]).label_map).dataobj)
        manual = np.asarray(nib.load(pair["label"]).dataobj)
        scored = manual != IGNORED_VOXELS
        for label in structures:
            scores[label.name][Path(pair["image"]).name] = dice(
                (predicted == label.code) & scored, (manual == label.code) & scored
            )
    return scores


def score_mni152(segmenter: Segmenter, folder: Path) -> dict[str, float]:
    """Return the Dice of predicted grey and white matter with nilearn's maps above 0.5."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    sample = folder / "mni152_t1.nii.gz"
    write_sample_volume(sample)
    predicted = np.asarray(nib.load(segmenter.segment(sample).label_map).dataobj)
    maps = {"grey": load_mni152_gm_template(resolution=1), "white": load_mni152_wm_template(resolution=1)}
    return {
        name: dice(np.isin(predicted, codes), maps[name].get_fdata() > 0.5)
        for name, codes in (("grey", GREY_CODES), ("white", WHITE_CODES))
    }


def main() -> None:
    """Print the table; write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset-dir")
    parser.add_argument("--checkpoint", default="models/model.pt")
    parser.add_argument("--pixdim", type=float)
    parser.add_argument("--json")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        overrides = {"pixdim": [options.pixdim] * 3} if options.pixdim else {}
        segmenter = Segmenter(output_dir=folder, checkpoint=options.checkpoint, **overrides)
        result["mni152"] = score_mni152(segmenter, Path(folder))
        if options.dataset_dir:
            scores = score_scans(segmenter, options.dataset_dir)
            result["structures"] = scores
            scans = sorted(next(iter(scores.values())))
            print(f"{'structure':30}" + "".join(f"{scan[:8]:>9}" for scan in scans) + f"{'mean':>9}")
            for name, row in scores.items():
                print(
                    f"{name:30}"
                    + "".join(f"{row[scan]:9.3f}" for scan in scans)
                    + f"{np.mean(list(row.values())):9.3f}"
                )
            result["mean_dice"] = float(np.mean([value for row in scores.values() for value in row.values()]))
            print(f"mean Dice over {len(scores)} structures and {len(scans)} scans: {result['mean_dice']:.3f}")
    print("MNI152 T1: " + ", ".join(f"{name} matter {value:.3f}" for name, value in result["mni152"].items()))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
