"""Dice and volume errors on label maps that a training held out, painted as T1 scans whose truth is known exactly.

``python -m benchmarks.synthetic_truth LABEL_MAPS [--brains FOLDER] [--checkpoint FILE] [--pixdim MM] [--json FILE]``
holds out the maps that configs/brain_train.json holds out (``--held-out 3 --brains-held-out 10``; 0 takes none). The
anatomies are as they are, neither deformed nor mirrored, and are painted with settings that no training draws together:
tissues that differ more within a kind, a finer texture, and voxels of ``--scan-spacing`` (0.9 mm). Brain-only maps get
shells around them; the codes of ``--ignore`` are not scored in them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import CHECKPOINT, make_parser, silence, write_json

if TYPE_CHECKING:
    from bundle.evaluation import CaseScores
    from bundle.synthesis import SyntheticBrainDataset

SETTINGS = {
    **dict.fromkeys(("rotation", "scaling", "shearing", "elastic_sd", "fine_elastic_sd", "swelling"), 0.0),
    **dict.fromkeys(("cortex", "ventricles", "shift", "head_shift", "flip", "strip", "cut", "thick_slices"), 0.0),
    "swellings": 0,
    "shared_contrast": 0.5,
    "texture": 0.03,
    "noise": 0.04,
    "bias": 0.45,
    "blur": 0.3,
    "plane_spacing": [0.9, 1.2],
    "clip_share": [0.001, 0.002],
}
WINDOW_MM = (190.0, 232.0, 208.0)
SEED = 20_011
WATCHED = (
    "Pallidum",
    "VentralDC",
    "Hippocampus",
    "Lateral-Ventricle",
    "Inf-Lat-Vent",
    "3rd-Ventricle",
    "4th-Ventricle",
)
"""Structures whose volume the bar is for."""
BAR_DICE, BAR_VOLUME = 0.90, 8.0


def paint(dataset: SyntheticBrainDataset, index: int, folder: Path, name: str) -> tuple[Path, Path]:
    """Write the image and the codes of a sample as NIfTI files; what does not count has the code 255."""
    import nibabel as nib

    from benchmarks.overlap import IGNORED_CODE
    from bundle.label_groups import IGNORED_CHANNEL
    from bundle.labels import read_labels

    sample = dataset[index]
    codes_of = np.full(256, IGNORED_CODE, dtype=np.int16)
    for label in read_labels():
        codes_of[label.channel] = label.code
    assert codes_of[IGNORED_CHANNEL] == IGNORED_CODE
    affine = np.diag([dataset.spacing] * 3 + [1.0])
    paths = folder / f"{name}_T1.nii.gz", folder / f"{name}_labels.nii.gz"
    for path, voxels in zip(
        paths, (sample["image"][0].numpy() * 1000, codes_of[sample["label"][0].numpy()]), strict=True
    ):
        image = nib.Nifti1Image(voxels.astype(np.int16), affine)
        image.header.set_xyzt_units("mm")
        image.to_filename(path)
    return paths


def datasets(options: argparse.Namespace) -> list[tuple[str, SyntheticBrainDataset]]:
    """Return a data set of one anatomy for each map that is held out."""
    from bundle.synthesis import SyntheticBrainDataset, find_label_maps, held_out

    heads = held_out(find_label_maps(options.label_maps), options.held_out, "held_out")
    brains = held_out(find_label_maps(options.brains), options.brains_held_out, "held_out") if options.brains else []
    others = {"spacing": options.scan_spacing, "window_mm": [WINDOW_MM] * 2, "length": 1, "options": SETTINGS}
    found = [(Path(path).name.split(".")[0], SyntheticBrainDataset([path], seed=SEED, **others)) for path in heads]
    donor = find_label_maps(options.label_maps)[:1]
    for path in brains:
        added = {"data": [path], "share": 1.0, "ignore": options.ignore, "extra_cerebral": {"donor": 0.0}}
        name = f"brain_{Path(path).name.split('.')[0]}"
        found.append((name, SyntheticBrainDataset(donor, seed=SEED, brains=added, **others)))
    return found


def means(cases: Sequence[CaseScores], metric: str) -> dict[str, float]:
    """Return the mean of a metric over the cases that score a structure, by the structure's name, in table order."""
    values: dict[str, list[float]] = {}
    for case in cases:
        for structure in case.structures:
            values.setdefault(structure.label.name, []).append(getattr(structure, metric))
    return {name: float(np.nanmean(found)) for name, found in values.items() if np.isfinite(found).any()}


def score(options: argparse.Namespace, folder: Path) -> list[CaseScores]:
    """Paint, segment and score each map; prints a line for each."""
    from benchmarks.overlap import IGNORED_CODE, UNSCORED_CODES
    from bundle.evaluation import Scorer
    from bundle.inference.segmenter import Segmenter
    from bundle.labels import read_labels

    overrides: dict[str, Any] = {"pixdim": [options.pixdim] * 3} if options.pixdim else {}
    segmenter = Segmenter(output_dir=str(folder / "out"), checkpoint=options.checkpoint, **overrides)
    of_heads = Scorer(read_labels(), [IGNORED_CODE], UNSCORED_CODES)
    of_brains = Scorer(read_labels(), [IGNORED_CODE], sorted({*UNSCORED_CODES, *options.ignore}))
    cases = []
    for name, dataset in datasets(options):
        image, labels = paint(dataset, 0, folder, name)
        scorer = of_brains if dataset.brains else of_heads
        cases.append(scorer.score_files(name, segmenter.segment(image).label_map, labels))
        mean = np.nanmean([structure.dice for structure in cases[-1].structures])
        print(f"{name:24} mean Dice {mean:.3f}", flush=True)
    return cases


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("label_maps")
    parser.add_argument("--brains", help="folder of brain-only label maps")
    parser.add_argument("--held-out", type=int, default=3)
    parser.add_argument("--brains-held-out", type=int, default=10)
    parser.add_argument("--ignore", type=int, nargs="*", default=[24, 28, 60])
    parser.add_argument("--scan-spacing", type=float, default=0.9)
    parser.add_argument("--checkpoint", default=str(CHECKPOINT))
    parser.add_argument("--pixdim", type=float)
    parser.add_argument("--json")
    return parser.parse_args()


def main() -> None:
    """Print a line for each map and structure, and whether the bars are met; write them as JSON where asked."""
    options = parse_arguments()
    silence()
    with tempfile.TemporaryDirectory() as folder:
        cases = score(options, Path(folder))
    errors, dice = means(cases, "volume_error_percent"), means(cases, "dice")
    print(f"{'structure':30}{'Dice':>8}{'volume':>9}")
    for name, value in dice.items():
        error = errors.get(name, float("nan"))
        off = name.endswith(WATCHED) and abs(error) > BAR_VOLUME
        print(f"{name:30}{value:8.3f}{error:+8.1f} %{'  above the bar' if off else ''}")
    mean = float(np.nanmean(list(dice.values())))
    print(f"mean Dice {mean:.3f} over {len(cases)} maps; the bar is {BAR_DICE}, volumes within {BAR_VOLUME:g} %")
    if options.json:
        write_json({"dice": dice, "volume_error_percent": errors, "mean_dice": mean}, options.json)


if __name__ == "__main__":
    main()
