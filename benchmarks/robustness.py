"""How far the Dice of real scans falls when they are resampled, disturbed, turned or written in another orientation,
and whether they are flagged then: none should be.

``python -m benchmarks.robustness DATASET_DIR [--checkpoint FILE] [--json FILE]``; DATASET_DIR holds NAME_T1.nii.gz with
NAME_labels.nii.gz (code 255 is not scored). A disturbed scan is scored on its own grid, against the manual labels on
that grid: the most frequent label of a larger voxel, the nearest label after a turn.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import CHECKPOINT, make_parser, met_or_missed, silence, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bundle.inference.segmenter import Segmenter


def mean_dice(predicted: NDArray[Any], labels: NDArray[Any], codes: Sequence[int]) -> float:
    """Return the mean Dice of the structures, ignored voxels left out."""
    import numpy as np

    from benchmarks.overlap import IGNORED_CODE, dice_by_code

    scored = labels != IGNORED_CODE
    return float(np.nanmean(dice_by_code(predicted[scored], labels[scored], codes)))


def score_conditions(
    segmenter: Segmenter, pairs: list[dict[str, str]], folder: Path
) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """Segment every scan under every condition and return the mean Dice of each scan, and the flags of all."""
    import json

    import nibabel as nib
    import numpy as np
    from tqdm import tqdm

    from benchmarks.disturbances import CONDITIONS
    from benchmarks.overlap import UNSCORED_CODES, voxels
    from benchmarks.scanners import SCANNERS
    from bundle.labels import read_labels

    codes = [label.code for label in read_labels()[1:] if label.code not in UNSCORED_CODES]
    conditions = CONDITIONS | SCANNERS
    scores: dict[str, list[float]] = {name: [] for name in conditions}
    flags: dict[str, list[str]] = {name: [] for name in conditions}
    with tqdm(total=len(pairs) * len(conditions), unit="scan") as bar:
        for seed, files in enumerate(pairs):
            scan: Any = nib.load(files["image"])
            labels = voxels(files["label"]).astype(np.int16)
            pair = (scan.get_fdata(dtype=np.float32), labels, scan.affine)
            for name, (change, _) in conditions.items():
                image, reference, affine = change(pair, seed)
                changed = nib.Nifti1Image(image.astype(np.float32), affine)
                changed.header.set_xyzt_units("mm")
                changed.to_filename(folder / "scan.nii.gz")
                outputs = segmenter.segment(folder / "scan.nii.gz")
                scores[name].append(mean_dice(voxels(outputs.label_map), reference, codes))
                record = json.loads(outputs.record.read_text(encoding="utf-8"))
                flags[name] += [f"{flag['code']} {flag['structure'] or ''}".strip() for flag in record["flags"]]
                bar.update()
    return scores, flags


def print_falls(scores: dict[str, list[float]], flags: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Print the mean Dice of each condition and how far it falls, and return what the JSON holds."""
    import numpy as np

    from benchmarks.disturbances import CONDITIONS, UNDISTURBED
    from benchmarks.scanners import SCANNERS

    whole = np.array(scores[UNDISTURBED])
    result = {}
    print(f"{'condition':20}{'mean Dice':>10}{'fall':>8}{'worst':>8}  limit     flags")
    for name, (_, limit) in (CONDITIONS | SCANNERS).items():
        fall = float(np.mean(whole) - np.mean(scores[name]))
        bar = "" if limit is None else f"{limit:.2f} {met_or_missed(fall < limit)}"
        worst = float((whole - scores[name]).max())
        print(f"{name:20}{np.mean(scores[name]):10.3f}{fall:8.3f}{worst:8.3f}  {bar:11}{', '.join(flags[name])}")
        result[name] = {"dice": scores[name], "fall": fall, "limit": limit, "flags": flags[name]}
    return result


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("dataset_dir")
    parser.add_argument("--checkpoint", default=str(CHECKPOINT))
    parser.add_argument("--json")
    return parser.parse_args()


def main() -> None:
    """Score every condition, print the table, write it as JSON where asked."""
    options = parse_arguments()
    from bundle.datasets import find_pairs
    from bundle.inference.segmenter import Segmenter

    silence()
    pairs = find_pairs(options.dataset_dir)
    with tempfile.TemporaryDirectory() as folder:
        segmenter = Segmenter(output_dir=folder, checkpoint=options.checkpoint, overwrite=True)
        scores, flags = score_conditions(segmenter, pairs, Path(folder))
    result = print_falls(scores, flags)
    if options.json:
        write_json(result, options.json)


if __name__ == "__main__":
    main()
