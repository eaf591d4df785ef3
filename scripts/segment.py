"""Segment T1-weighted brain MRI: ``python -m scripts.segment INPUT [INPUT ...] --output-dir DIR``.

Each scan NAME.nii.gz gives DIR/NAME/NAME_seg.nii.gz (FreeSurfer codes on the scan's grid), NAME_volumes.tsv,
NAME_qc.png, NAME_seg.json and NAME_record.json; a run over a folder leaves DIR/run_TIME.json too. A scan that cannot be
used is reported in one line, the others are still done, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.lean import load_monai_alone
from bundle.warned import warn
from scripts.command import ROOT, make_parser, print_error, run_program
from scripts.scan_options import CONFIG, OVERRIDES, add_scan_options

if TYPE_CHECKING:
    from bundle.results import OutputPaths, RunRecord

OWN_OVERRIDES = (*OVERRIDES, "max_memory", "probabilities")
"""Options that replace the config id of their name when they are given."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("segment", __doc__)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="NIfTI or MGH file, or a folder of them")
    parser.add_argument("--recursive", action="store_true", help="walk the folders inside folders too")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="folder of the results")
    parser.add_argument(
        "--max-memory", metavar="SIZE", help="refuse scans that need more memory, such as 3G (default: what is free)"
    )
    parser.add_argument(
        "--probabilities",
        nargs="+",
        metavar="CODE",
        help="write probability maps of these structures, or of all (after the inputs)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    add_scan_options(parser)
    options = parser.parse_args(arguments)
    options.lean = False
    if options.probabilities is not None:
        options.probabilities = _codes(options.probabilities, parser)
    options.config = options.config or [str(CONFIG)]
    options.model = options.model[0] if options.model and len(options.model) == 1 else options.model
    return options


def _codes(words: list[str], parser: argparse.ArgumentParser) -> list[int] | str:
    """Return the codes of a command line, or ``"all"``."""
    if words == ["all"]:
        return "all"
    if not all(word.isdecimal() for word in words):
        parser.error(f"argument --probabilities: found {' '.join(words)!r}, codes or all are wanted")
    return [int(word) for word in words]


def run(options: argparse.Namespace) -> int:
    """Segment all inputs, say what is left out, and return the number of those that failed."""
    if options.lean:
        load_monai_alone()

    from bundle.io import list_inputs
    from bundle.results import RunRecord, plan_outputs

    listing = list_inputs(options.inputs, options.recursive)
    plan = plan_outputs(listing.scans, options.output_dir, options.overwrite)
    record = RunRecord(options.inputs, options.output_dir, listing)
    for line in listing.lines():
        print(line, file=sys.stderr)
    for error in listing.errors:
        print_error(error)
        record.failed(error.path, error)
    for path, refusal in plan.refused:
        print_error(refusal, path)
        record.failed(path, refusal)
    failed = len(listing.errors) + len(plan.refused)
    if plan.scans:
        failed += segment_all(plan.scans, options, record)
    wanted = len(listing.scans) + len(listing.errors)
    folders = any(map(os.path.isdir, options.inputs))
    if wanted > 1 or folders:
        left_out = f", {len(listing.left_out)} left out" if listing.left_out else ""
        kept = f"; {record.write()}" if folders else ""
        print(" ".join(f"{wanted - failed} of {wanted} scans segmented{left_out}{kept}".splitlines()))
    return failed


def segment_all(paths: list[str], options: argparse.Namespace, record: RunRecord) -> int:
    """Segment scans, note what becomes of them in their order, and return the number of those that failed.

    The results of one scan are written while the next one is read and segmented.
    """
    from torch import device
    from tqdm import tqdm

    from bundle.inference.pipeline import pipeline
    from bundle.inference.segmenter import Segmenter
    from bundle.results.record import STAGES_KEY

    overrides = {name: value for name in OWN_OVERRIDES if (value := getattr(options, name)) is not None}
    overrides |= {"output_dir": options.output_dir, "overwrite": options.overwrite, "bundle_root": str(ROOT)}
    if options.device is not None:
        overrides["device"] = device(options.device)  # a string could be an expression of MONAI's
    segmenter = Segmenter(options.config, **overrides)
    print(f"engine {segmenter.engine}")
    if len(paths) == 1:
        segmenter.show_plans(tqdm.write)
    failed = 0

    def write(scan: dict[Any, Any]) -> tuple[OutputPaths, float]:
        return segmenter.write(scan), scan[STAGES_KEY].seconds()

    with (
        # One thread for both: a scan that is read while the network is at another costs a seventh more memory.
        pipeline(paths, lambda path: segmenter.compute(segmenter.read(path)), write) as outcomes,
        tqdm(outcomes, unit="scan", total=len(paths), disable=None) as bar,
    ):
        for outcome in bar:
            path = outcome.item
            bar.set_postfix_str(Path(path).name)
            for warning in outcome.warnings:
                warn(warning)
            try:
                outputs, seconds = outcome.get()
            except Exception as error:  # one bad scan must not stop the others
                failed += 1
                with bar.external_write_mode(sys.stderr):
                    print_error(error, path)
                record.failed(path, error)
                continue
            record.segmented(path)
            names = "  ".join(path.name for path in (outputs.volumes, outputs.picture, outputs.sidecar, outputs.record))
            line = f"{outputs.label_map}  {names}  {seconds:.1f} s"
            tqdm.write(" ".join(line.splitlines()))  # a name may hold a line break
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    options = parse_arguments(arguments)
    # A config of one's own may name anything of MONAI's, and a caller in Python may use it afterwards.
    options.lean = __name__ == "__main__" and options.config == [str(CONFIG)]
    return run_program(run, options)


if __name__ == "__main__":
    sys.exit(main())
