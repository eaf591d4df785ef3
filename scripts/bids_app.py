"""Segment a BIDS data set: ``python -m scripts.bids_app BIDS_DIR OUTPUT_DIR participant``, then ``... group``.

Every _T1w image (--suffix takes others) gets a label map, a sidecar and a table of volumes in OUTPUT_DIR, a BIDS
derivative; its picture and its record are in OUTPUT_DIR/cohort. ``group`` writes the tables over all scans there.
docs/cohorts.md says more.

Exit codes: 0 all scans have a result, 1 some have none, 2 nothing could run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.choices import DEFAULT_BIDS_SUFFIX
from bundle.errors import BundleError, InputError, OptionError
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

if TYPE_CHECKING:
    from bundle.bids.entities import BidsScan
    from bundle.cohort.messages import Outcome, Readiness

LEVELS = ("participant", "group")
FOLDER = "cohort"
"""Of the results and tables that are no BIDS, inside the derivative."""
IGNORED = (FOLDER, "logs", "*_morph.tsv", "*_morph.json", "*.html")
SHOWN = 3
"""Errors of a data set that are shown."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, as BIDS-Apps have it."""
    parser = make_parser("bids_app", __doc__)
    add = parser.add_argument
    add("bids_dir", metavar="BIDS_DIR", help="the data set")
    add("output_dir", metavar="OUTPUT_DIR", help="the derivative, BIDS_DIR/derivatives/NAME for one")
    add("analysis_level", choices=LEVELS, help="participant segments, group writes the tables over all")
    label: dict[str, Any] = {"nargs": "+", "metavar": "LABEL"}
    add("--participant-label", "--participant_label", **label, help="these participants, with or without sub-")
    add("--session-label", "--session_label", **label, help="these sessions, with or without ses-")
    add_suffix_option(parser, "kinds of images", [DEFAULT_BIDS_SUFFIX])
    add("--bids-filter-file", metavar="FILE", help='JSON: {"t1w": {"acquisition": "mprage", "run": 1}}')
    add("--skip-bids-validation", "--skip_bids_validation", action="store_true", help="do not validate BIDS_DIR first")
    add_run_options(parser)
    add_scan_options(parser)
    options = parser.parse_args(arguments)
    check_run_options(parser, options)
    return options


def run(options: argparse.Namespace) -> int:
    """Do what the level asks for and return the number of scans without a result."""
    load_lean(options)

    from bundle.bids.entities import anat_scans, no_images, read_filter
    from bundle.cohort.cases import Cohort
    from bundle.cohort.lock import output_lock
    from bundle.cohort.messages import Case
    from bundle.io.names import volume_stem

    source, root = Path(options.bids_dir).absolute(), Path(options.output_dir).absolute()
    folder = root / FOLDER
    wanted = read_filter(options.bids_filter_file) if options.bids_filter_file else None
    scans = anat_scans(source, options.participant_label, options.session_label, wanted, options.suffix)
    if not scans:
        raise no_images(source, options.suffix)
    _check_places(source, root)
    options.collect = options.analysis_level == "group"
    if not (options.skip_bids_validation or options.collect):
        _validate(source)
    selected = bool(options.participant_label or options.session_label or wanted)
    parts = sorted({f"sub-{scan.subject}" for scan in scans}) if selected else []
    if parts:
        refuse_part(options, "group")
    name = (parts[0] if len(parts) == 1 else "participants") if parts else ""
    cohort = Cohort([Case(volume_stem(scan.path), str(scan.path)) for scan in scans])
    with output_lock(folder, parts):
        place = Placing(scans, folder, root, source)
        report = run_and_tell(cohort, options, str(folder), name, str(root), place.ready, place.ended)
        failed = report.tally.failed + place.failed
        if options.pages and report.tally.failed < len(scans):
            failed += _write_pages(folder, options.ratings, scans, root)
    return failed


class Placing:
    """Puts the results of each scan into the derivative as they come.

    Args:
        scans: of the data set.
        folder: of the results.
        root: the derivative.
        source: the data set.
    """

    def __init__(self, scans: Sequence[BidsScan], folder: Path, root: Path, source: Path) -> None:
        self.scans = {str(scan.path): scan for scan in scans}
        self.places = (folder, root, source)
        self.failed = 0

    def ready(self, readiness: Readiness) -> None:
        """Describe the derivative, unless nothing is segmented."""
        from bundle.bids.derivatives import describe_derivative

        _, root, source = self.places
        if readiness.engine:
            describe_derivative(root, source, readiness.table, IGNORED)

    def ended(self, outcome: Outcome) -> None:
        """Take the end of a scan; what goes wrong is said in a line and counted."""
        from bundle.bids.derivatives import write_derivatives
        from bundle.results import OutputPaths

        if outcome.result.row is None:
            return
        folder, root, source = self.places
        case = outcome.case
        try:
            write_derivatives(self.scans[case.image], OutputPaths.of(case.image, folder), root, source)
        except (BundleError, OSError) as error:
            self.failed += 1
            print_error(error, case.image)


def _write_pages(folder: Path, ratings: Sequence[str], scans: Sequence[BidsScan], root: Path) -> int:
    """Write the pages of all scans and of each participant, and return the number of scans that got none."""
    from bundle.io.names import volume_stem
    from bundle.results.page_set import PageSet

    pages = PageSet(folder, ratings=ratings, title=root.name)
    failed = write_pages(pages)
    for subject in sorted({scan.subject for scan in scans}):
        names = [volume_stem(scan.path) for scan in scans if scan.subject == subject]
        pages.write_participant(names, root / f"sub-{subject}.html")
    return failed


def _check_places(source: Path, root: Path) -> None:
    """Refuse to write results into the data set itself, other than under derivatives."""
    inside = root.parts[len(source.parts) :] if root.is_relative_to(source) else None
    if inside is not None and (not inside or inside[0] not in ("derivatives", ".git")):
        wanted = f"a folder elsewhere, or {source.name}/derivatives/NAME, is wanted"
        raise OptionError(root, "lies in the data set", wanted)


def _validate(source: Path) -> None:
    """Refuse a data set with errors; without the validator, say so.

    Raises:
        InputError: with the first errors.
    """
    from bundle.bids.validation import PROGRAM, find_validator, validation_errors

    validator = find_validator()
    if validator is None:
        print(f"not validated: {PROGRAM} is not installed ('pip install {PROGRAM}' brings it)", file=sys.stderr)
        return
    errors = validation_errors(source, validator)
    for line in errors[:SHOWN]:
        print(f"not BIDS: {line}", file=sys.stderr)
    if errors:
        wanted = "a valid data set, or --skip-bids-validation, is wanted"
        raise InputError(source, f"found {len(errors)} errors that BIDS's validator names", wanted, "dataset")


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    options = parse_arguments(arguments)
    options.own_process = __name__ == "__main__"  # a caller in Python may use MONAI afterwards
    return exit_code(run_program(run, options), options)


if __name__ == "__main__":
    restart_without_thread_cache()
    sys.exit(main())
