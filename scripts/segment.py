"""Segment T1-weighted brain MRI: ``python -m scripts.segment INPUT [INPUT ...] --output-dir DIR``.

Each scan NAME.nii.gz gives DIR/NAME/NAME_seg.nii.gz (FreeSurfer codes on the scan's grid), NAME_volumes.tsv,
NAME_qc.png, NAME_seg.json and NAME_record.json; a run over a folder leaves DIR/run_TIME.json too. A scan that cannot be
used is reported in one line, the others are still done, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.errors import BundleWarning
from bundle.lean import load_monai_alone
from bundle.process import restart_without_thread_cache
from bundle.warned import warn
from scripts.command import make_parser, run_program
from scripts.many import error_line_of
from scripts.scan_options import add_scan_options, config_of, is_shipped, overrides_of

if TYPE_CHECKING:
    from bundle.cohort.cases import Cohort
    from bundle.cohort.messages import Outcome
    from bundle.results import RunRecord


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("segment", __doc__)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="NIfTI or MGH file, or a folder of them")
    parser.add_argument("--recursive", action="store_true", help="walk the folders inside folders too")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    add_scan_options(parser)
    options = parser.parse_args(arguments)
    options.own_process = False
    return options


def run(options: argparse.Namespace) -> int:
    """Segment all inputs, say what is left out, and return the number of those that failed."""
    if options.own_process and is_shipped(options):
        load_monai_alone()

    from bundle.cohort.cases import find_cases
    from bundle.results import RunRecord

    cohort = find_cases(options.inputs, options.recursive, plain=True)
    scans = [case.image for case in (*cohort.cases, *(case for case, _ in cohort.refused))]
    record = RunRecord(options.inputs, options.output_dir, scans, cohort.left_out)
    cohort.refuse_taken(options.output_dir, options.overwrite)
    for line in cohort.lines():
        print(line, file=sys.stderr)
    for outcome in cohort.refusals():
        tell(outcome, record, options.output_dir)
    if cohort.cases:
        segment_all(cohort, options, record)
    folders = any(map(os.path.isdir, options.inputs))
    if len(scans) > 1 or folders:
        left_out = f", {len(cohort.left_out)} left out" if cohort.left_out else ""
        kept = f"; {record.write()}" if folders else ""
        print(" ".join(f"{len(record.done)} of {len(scans)} scans segmented{left_out}{kept}".splitlines()))
    return len(record.failures)


def segment_all(cohort: Cohort, options: argparse.Namespace, record: RunRecord) -> None:
    """Segment scans as a cohort's only worker does, and tell what becomes of them in their order."""
    from tqdm import tqdm

    from bundle.cohort.messages import Settings
    from bundle.cohort.run import InProcess
    from bundle.machine import keep_freed_memory_from_first_use

    if options.own_process and len(cohort.cases) > 1:
        keep_freed_memory_from_first_use()
    given = (config_of(options), overrides_of(options), options.output_dir)
    settings = Settings(*given, overwrite=options.overwrite, resume=False)
    runner = InProcess(settings, show=tqdm.write if len(cohort.cases) == 1 else None)
    print(f"engine {runner.ready().engine}")
    with (
        closing(runner.run(cohort.cases)) as outcomes,
        tqdm(outcomes, unit="scan", total=len(cohort.cases), disable=None) as bar,
    ):
        for outcome in bar:
            bar.set_postfix_str(Path(outcome.case.image).name)
            with bar.external_write_mode(sys.stderr):
                tell(outcome, record, options.output_dir)


def tell(outcome: Outcome, record: RunRecord, output_dir: str) -> None:
    """Print and note what became of a scan."""
    from bundle.results import OutputPaths

    image, result = outcome.case.image, outcome.result
    for line in result.warnings:
        warn(BundleWarning(line))
    if result.row is None:
        print(f"error: {error_line_of(outcome)}", file=sys.stderr)
        record.failed(image, result.code, result.reason)
        return
    record.segmented(image)
    outputs = OutputPaths.of(image, output_dir)
    names = "  ".join(path.name for path in (outputs.volumes, outputs.picture, outputs.sidecar, outputs.record))
    line = f"{outputs.label_map}  {names}  {result.row.seconds or 0:.1f} s"
    print(" ".join(line.splitlines()))  # a name may hold a line break


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    options = parse_arguments(arguments)
    options.own_process = __name__ == "__main__"  # a caller in Python may use MONAI afterwards
    return run_program(run, options)


if __name__ == "__main__":
    restart_without_thread_cache()
    sys.exit(main())
