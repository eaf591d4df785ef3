"""Pages to look at results: ``python -m scripts.page RESULTS_DIR [--scans DIR ...] [--ratings FILE ...]``.

Each RESULTS_DIR/NAME, as scripts.segment leaves it, gets a NAME.html, with the scan where it is found, and RESULTS_DIR
an index.html. Pages need no network and no server. A page that is up to date is left alone. With --ratings, what the
pages exported is shown in the index and joined with the results in RESULTS_DIR/rated.tsv.
"""

from __future__ import annotations

import argparse
import sys

from scripts.command import make_parser, run_program
from scripts.pages import write_pages


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("page", __doc__)
    parser.add_argument("results_dir", metavar="RESULTS_DIR", help="folder of results")
    parser.add_argument(
        "--scans",
        action="append",
        default=[],
        metavar="DIR",
        help="folder of the scans, folders inside it included; may be given again",
    )
    parser.add_argument(
        "--ratings",
        action="append",
        default=[],
        metavar="FILE",
        help="ratings that a page exported; may be given again",
    )
    parser.add_argument("--title", default="", help="title of the index (default: the folder's name)")
    parser.add_argument("--overwrite", action="store_true", help="write pages anew that are up to date, too")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Write all pages, say what became of them, and return the number of scans that got none."""
    from bundle.results.page_set import PageSet

    pages = PageSet(options.results_dir, options.scans, options.ratings, options.title)
    return write_pages(pages, options.overwrite)


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
