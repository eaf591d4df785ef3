"""Pages of a folder of results, written and told of, for the programs that make them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scripts.command import print_error

if TYPE_CHECKING:
    from bundle.results.page_set import PageSet


def write_pages(pages: PageSet, overwrite: bool = False) -> int:
    """Write all pages, say what became of them, and return the number of scans that got none.

    Args:
        pages: what is to be written.
        overwrite: write pages anew that are up to date, too.
    """
    from tqdm import tqdm

    from bundle.results.page_set import RATED

    written = failed = 0
    with tqdm(pages.write(overwrite), total=len(pages.paths), unit="page", disable=None) as bar:
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
        note_unknown(sorted(pages.ratings.keys() - set(here)))
    return failed


def note_unknown(names: Sequence[str]) -> None:
    """Say which ratings are of scans that are not there."""
    for name in names:
        print(f"note: a rating of {name}, which is not among the results", file=sys.stderr)
