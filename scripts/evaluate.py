"""Score label maps against references: ``python -m scripts.evaluate PRED REF [--output-dir DIR]``.

PRED and REF are two files, or two folders whose files belong together by name: NAME/NAME_seg.nii.gz (as scripts.segment
writes it), NAME_seg.nii.gz or NAME.nii.gz against NAME_labels.nii.gz, NAME_seg.nii.gz or NAME.nii.gz. Prints Dice, NSD,
HD95 and volume error of each structure with 95 % intervals; DIR receives scores.csv, summary.json and dice.png.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.errors import BundleWarning, InputError
from scripts.command import ROOT, make_parser, print_error, run_program

if TYPE_CHECKING:
    from bundle.evaluation import CaseScores, Pair, Scorer
    from bundle.model import Model

LABEL_TABLE = ROOT / "configs" / "labels.tsv"
TABLES = ("labels.tsv", "dataset.json", "dseg.tsv")
"""Names of label tables that are looked for beside the references, and in the folder above."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("evaluate", __doc__)
    parser.add_argument("prediction", metavar="PRED", help="label map, or a folder of them")
    parser.add_argument("reference", metavar="REF", help="label map, or a folder of them")
    parser.add_argument(
        "--label-table",
        "--labels",
        metavar="FILE",
        help="label table, or a dataset.json (default: the model's, that beside the references, or the brain's)",
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="FOLDER",
        help="folder of the model that predicted, or its zip; several that were averaged",
    )
    parser.add_argument("--all-cases", action="store_true", help="score those too that the model was trained on")
    parser.add_argument("--partial", action="store_true", help="score the pairs that are there")
    parser.add_argument("--output-dir", metavar="DIR", help="folder of scores.csv, summary.json and dice.png")
    parser.add_argument(
        "--ignore", nargs="+", type=int, default=[], metavar="CODE", help="reference codes whose voxels do not count"
    )
    parser.add_argument(
        "--unscored", nargs="+", type=int, default=[], metavar="CODE", help="codes of structures that are not scored"
    )
    parser.add_argument("--tolerance", type=float, default=1.0, metavar="MM", help="tolerance of NSD (default: 1 mm)")
    parser.add_argument("--compare", metavar="OTHER_PRED", help="a second set of predictions to test PRED against")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    parser.add_argument("--assume-affine", action="store_true", help="accept files without an orientation")
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    return parser.parse_args(arguments)


def check_pairs(pairs: list[Pair], assume_affine: bool) -> int:
    """Print every pair that does not lie on one grid, in a line each, and return their number."""
    from bundle.io.label_map import check_same_grid, read_grid

    failed = 0
    for pair in pairs:
        try:
            check_same_grid(read_grid(pair.prediction, assume_affine), read_grid(pair.reference, assume_affine))
        except InputError as error:
            failed += 1
            print_error(error)
    return failed


def label_table_of(options: argparse.Namespace, model: Model | None) -> Path:
    """Return the label table that the command line means, and say which where nobody named it."""
    if options.label_table:
        return Path(options.label_table)
    if model is not None:
        return model.label_table
    folder = Path(options.reference) if Path(options.reference).is_dir() else Path(options.reference).parent
    for path in (place / name for place in (folder, folder.resolve().parent) for name in TABLES):
        if path.is_file():
            print(f"label table: {path}")
            return path
    return LABEL_TABLE


def find_pairs(source: str, options: argparse.Namespace, model: Model | None) -> list[Pair]:
    """Return the pairs of a set of predictions that are to be scored, and say which are left out."""
    from bundle.evaluation import pair_label_maps
    from bundle.evaluation.sides import ALL_CASES, HELD_OUT, chosen_names, seen_line

    def chosen(names: Sequence[str]) -> set[str] | None:
        wanted = chosen_names(names, model, ALL_CASES if options.all_cases else HELD_OUT)
        if wanted is not None and len(wanted) < len(names):
            print(f"{len(wanted)} of {len(names)} cases are scored, those that the training held out; --all-cases: all")
        return wanted

    pairs = pair_label_maps(source, options.reference, chosen, options.partial)
    if line := seen_line([pair.case for pair in pairs], model):
        warnings.warn(line, BundleWarning, stacklevel=2)
    return pairs


def score(pairs: list[Pair], scorer: Scorer, assume_affine: bool) -> list[CaseScores]:
    """Score all pairs, and warn of codes that the label table does not know."""
    from tqdm import tqdm

    from bundle.evaluation.sides import side_lines

    cases = []
    with tqdm(pairs, unit="case", disable=None) as bar:
        for pair in bar:
            bar.set_postfix_str(pair.case)
            cases.append(scorer.score_files(pair.case, pair.prediction, pair.reference, assume_affine))
    for line in side_lines(cases, scorer):
        warnings.warn(line, BundleWarning, stacklevel=2)
    return cases


def run(options: argparse.Namespace) -> int:
    """Score, print and write; return the number of pairs that cannot be scored."""
    from bundle.evaluation import (
        Scorer,
        check_report,
        compare,
        comparison_lines,
        mirror_line,
        save_report,
        summarise,
        summary_lines,
    )
    from bundle.evaluation.compare import COMPARED_METRICS
    from bundle.label_groups import stated_ignore
    from bundle.labels import read_labels
    from bundle.model import find_model

    model = find_model(options.model if options.model[1:] else options.model[0]) if options.model else None
    label_table = label_table_of(options, model)
    ignore = [*options.ignore, *(model.ignore if model else stated_ignore(label_table))]
    unscored = [*options.unscored, *(model.unscored if model else [])]
    scorer = Scorer(read_labels(label_table), ignore, unscored, options.tolerance, model.groups if model else None)
    if options.output_dir:
        check_report(options.output_dir, options.overwrite)
    sources = {"prediction": options.prediction}
    if options.compare:
        sources["compared"] = options.compare
    pairs = {name: find_pairs(source, options, model) for name, source in sources.items()}
    if failed := sum(check_pairs(found, options.assume_affine) for found in pairs.values()):
        return failed
    sets = {name: score(found, scorer, options.assume_affine) for name, found in pairs.items()}
    comparisons = [
        compare(sets["prediction"], sets["compared"], metric, options.seed)
        for metric in COMPARED_METRICS
        if options.compare
    ]
    if options.output_dir:
        settings = {"sources": {**sources, "reference": options.reference}, "label_table": str(label_table)}
        summary = save_report(
            options.output_dir, scorer, sets, options.seed, comparisons, options.overwrite, **settings
        )
    else:
        summary = summarise(sets["prediction"], options.seed)
    lines = [*summary_lines(summary), mirror_line(summary)]
    if options.compare:
        other = summarise(sets["compared"], options.seed)
        lines = [options.prediction, *lines, "", options.compare, *summary_lines(other), mirror_line(other)]
    for comparison in comparisons:
        lines += ["", *comparison_lines(comparison, (options.prediction, options.compare))]
    print("\n".join(line for line in lines if line is not None))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
