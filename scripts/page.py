"""Pages to look at results: ``python -m scripts.page RESULTS_DIR [--scans DIR ...] [--ratings FILE ...]``.

Each RESULTS_DIR/NAME, as scripts.segment leaves it, gets a NAME.html, with the scan where it is found, and RESULTS_DIR
an index.html. Pages need no network and no server. A page that is up to date is left alone. With --ratings, what the
pages exported is shown in the index and joined with the results in RESULTS_DIR/rated.tsv.
"""

from __future__ import annotations

import argparse
import sys

from scripts.command import make_parser, print_error, run_program


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
    from tqdm import tqdm

    from bundle.results.page_set import RATED, PageSet

    pages = PageSet(options.results_dir, options.scans, options.ratings, options.title)
    written = failed = 0
    with tqdm(pages.write(options.overwrite), total=len(pages.paths), unit="page", disable=None) as bar:
        for outcome in bar:
            if outcome.error is not None:
                failed += 1
                with bar.external_write_mode(sys.stderr):
                    print_error(outcome.error, outcome.page.parent)
                continue
            written += outcome.written
            if outcome.reason:
                line = f"note: {outcome.page}: labels alone, since {outcome.reason} (--scans DIR says where scans are)"
                tqdm.write(" ".join(line.splitlines()), file=sys.stderr)
    index, far = pages.write_index()
    kept = len(pages.paths) - failed - written
    outliers = f"; outliers: {', '.join(far)}" if far else ""
    print(f"{index}: {written} pages written, {kept} up to date, {failed} failed{outliers}")
    if pages.ratings:
        here = [name for name in pages.ratings if name in pages.paths]
        print(f"{pages.folder / RATED}: {len(here)} of {len(pages.paths)} scans rated")
        for name in sorted(pages.ratings.keys() - set(here)):
            print(f"note: a rating of {name}, which is not among the results", file=sys.stderr)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
