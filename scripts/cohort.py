"""Segment thousands of scans: ``python -m scripts.cohort INPUT [INPUT ...] --output-dir DIR``.

INPUT is a scan, a folder, a list (.txt, a path a line), a table (.tsv with the columns image and possibly id) or a BIDS
data set. Each scan gives what scripts.segment gives, and a line in DIR/cohort.tsv; the same command goes on where a run
ended, and does again what has changed. docs/cohorts.md has laptops, servers and clusters.

Exit codes: 0 all scans have a result, 1 some have none, 2 nothing could run.
"""

from __future__ import annotations

import argparse
import re
import sys

from bundle.errors import OptionError
from bundle.process import restart_without_thread_cache
from scripts.command import make_parser, print_error, run_program
from scripts.many import (
    add_run_options,
    add_suffix_option,
    check_run_options,
    exit_code,
    load_lean,
    refuse_part,
    run_and_tell,
)
from scripts.pages import write_pages
from scripts.scan_options import add_scan_options


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("cohort", __doc__)
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="scan, folder, list (.txt), table (.tsv) or BIDS data set")
    add("--recursive", action="store_true", help="walk the folders inside folders too")
    add_suffix_option(parser, "kinds of images of BIDS data sets")
    add("--output-dir", required=True, metavar="DIR", help="folder of the results and tables")
    add_run_options(parser)
    add("--collect", action="store_true", help="write the tables from the results that are there, segment nothing")
    add("--shard", metavar="I/N", help="every N-th scan from the I-th on, for job arrays")
    add_scan_options(parser)
    options = parser.parse_args(arguments)
    check_run_options(parser, options)
    return options


def run(options: argparse.Namespace) -> int:
    """Segment the cohort and return the number of scans without a result."""
    load_lean(options)

    from bundle.cohort.cases import find_cases
    from bundle.cohort.lock import output_lock
    from bundle.results.plan import check_output_dir

    cohort = find_cases(options.inputs, options.recursive, suffixes=options.suffix)
    part = _shard(options.shard)
    if part:
        refuse_part(options, "--collect without --shard")
        cohort = cohort.part(*part)
    for line in cohort.lines():
        print(line, file=sys.stderr)
    for _, error in cohort.refused:
        print_error(error)
    if not cohort.cases:
        return max(1, len(cohort.refused))
    check_output_dir(options.output_dir)
    name = f"shard_{part[0]}_of_{part[1]}" if part else ""
    with output_lock(options.output_dir, [name] if name else []):
        report = run_and_tell(cohort, options, options.output_dir, name)
        failed = report.tally.failed
        if options.pages and failed < report.tally.status.total():
            from bundle.results.page_set import PageSet

            failed += write_pages(PageSet(options.output_dir, ratings=options.ratings))
        return failed


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found:
        raise OptionError("--shard", f"found {text!r}", "I/N with I from 1 to N is wanted")
    return int(found[1]), int(found[2])


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    options = parse_arguments(arguments)
    options.own_process = __name__ == "__main__"  # a caller in Python may use MONAI afterwards
    return exit_code(run_program(run, options), options)


if __name__ == "__main__":
    restart_without_thread_cache()
    sys.exit(main())
