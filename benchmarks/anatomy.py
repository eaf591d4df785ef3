"""Dice against manual labels of real scans, and against nilearn's tissue maps of the MNI152 T1.

``python -m benchmarks.anatomy [--dataset-dir DIR] [--checkpoint FILE] [--mirror-averaging] [--json FILE]``; DIR
holds NAME_T1.nii.gz with NAME_labels.nii.gz (code 255 is not scored there). Without it only the MNI152 T1 is scored.
Intervals are bootstrap intervals over the scans.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import CHECKPOINT, make_parser, silence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bundle.evaluation import CaseScores, Summary
    from bundle.inference.segmenter import Segmenter

GREY_CODES = (3, 42, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58)
WHITE_CODES = (2, 41, 7, 46)


def score_cases(segmenter: Segmenter, dataset_dir: str) -> list[CaseScores]:
    """Segment and score each scan of a folder; cases have the scans' file names."""
    from benchmarks.overlap import IGNORED_CODE, UNSCORED_CODES
    from bundle.datasets import find_pairs
    from bundle.evaluation import Scorer
    from bundle.labels import read_labels

    scorer = Scorer(read_labels(), [IGNORED_CODE], UNSCORED_CODES)
    return [
        scorer.score_files(Path(pair["image"]).name, segmenter.segment(pair["image"]).label_map, pair["label"])
        for pair in find_pairs(dataset_dir)
    ]


def dice_table(cases: list[CaseScores]) -> dict[str, dict[str, float]]:
    """Return the Dice of each structure and scan."""
    names = [score.label.name for score in cases[0].structures]
    return {name: {case.case: case.structures[index].dice for case in cases} for index, name in enumerate(names)}


def score_scans(segmenter: Segmenter, dataset_dir: str) -> dict[str, dict[str, float]]:
    """Segment each scan of a folder and return the Dice of each structure and scan."""
    return dice_table(score_cases(segmenter, dataset_dir))


def dice(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the Dice overlap of two masks."""
    import torch
    from monai.metrics import compute_dice

    masks = [torch.from_numpy(mask)[None, None] for mask in (first, second)]
    return float(compute_dice(masks[0], masks[1]))


def score_mni152(segmenter: Segmenter, folder: Path) -> dict[str, float]:
    """Return the Dice of predicted grey and white matter with nilearn's maps above 0.5."""
    import numpy as np
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    from benchmarks.overlap import voxels
    from scripts.sample_volume import write_sample_volume

    sample = folder / "mni152_t1.nii.gz"
    write_sample_volume(sample)
    predicted = voxels(segmenter.segment(sample).label_map)
    maps = {"grey": load_mni152_gm_template(resolution=1), "white": load_mni152_wm_template(resolution=1)}
    tissues = (("grey", GREY_CODES), ("white", WHITE_CODES))
    return {name: dice(np.isin(predicted, codes), maps[name].get_fdata() > 0.5) for name, codes in tissues}


def scans_record(cases: list[CaseScores], summary: Summary) -> dict[str, Any]:
    """Return what the JSON holds of the real scans."""
    return {
        "structures": dice_table(cases),
        "mean_dice": summary.overall["dice"].mean,
        "dice": {row.label.name: asdict(row.estimates["dice"]) for row in summary.structures},
        "overall": {metric: asdict(estimate) for metric, estimate in summary.overall.items()},
        "left_right_confusion": {case.case: case.mirrored_share for case in cases},
    }


def print_scans(cases: list[CaseScores], summary: Summary) -> None:
    """Print the Dice of each structure and scan, the means with their intervals, and the confusion of sides."""
    from bundle.evaluation import mirror_line

    print(f"{'structure':30}" + "".join(f"{case.case[:8]:>9}" for case in cases) + f"{'mean':>9}   interval")
    for row, dice in zip(summary.structures, dice_table(cases).values(), strict=True):
        found = row.estimates["dice"]
        print(
            f"{row.label.name:30}"
            + "".join(f"{value:9.3f}" for value in dice.values())
            + f"{found.mean:9.3f}   {found.low:.3f} to {found.high:.3f}"
        )
    mean = summary.overall["dice"]
    print(
        f"mean Dice over {len(summary.structures)} structures and {len(cases)} scans: {mean.mean:.3f}"
        f" ({mean.low:.3f} to {mean.high:.3f})"
    )
    print(mirror_line(summary))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--dataset-dir")
    parser.add_argument("--checkpoint", default=str(CHECKPOINT))
    parser.add_argument("--pixdim", type=float)
    parser.add_argument("--mirror-averaging", action="store_true")
    parser.add_argument("--json")
    return parser.parse_args()


def main() -> None:
    """Print the table; write it as JSON where asked."""
    options = parse_arguments()
    from bundle.datasets import find_pairs
    from bundle.evaluation import summarise
    from bundle.evaluation.tables import write_json
    from bundle.inference.segmenter import Segmenter

    silence()
    if options.dataset_dir:
        find_pairs(options.dataset_dir)  # refused before a minute is spent
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        overrides: dict[str, Any] = {"pixdim": [options.pixdim] * 3} if options.pixdim else {}
        overrides["mirror_averaging"] = options.mirror_averaging
        segmenter = Segmenter(output_dir=folder, checkpoint=options.checkpoint, **overrides)
        result["mni152"] = score_mni152(segmenter, Path(folder))
        if options.dataset_dir:
            cases = score_cases(segmenter, options.dataset_dir)
            summary = summarise(cases)
            print_scans(cases, summary)
            result |= scans_record(cases, summary)
    print("MNI152 T1: " + ", ".join(f"{name} matter {value:.3f}" for name, value in result["mni152"].items()))
    if options.json:
        write_json(result, options.json)


if __name__ == "__main__":
    main()
