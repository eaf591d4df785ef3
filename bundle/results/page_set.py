"""The pages of a folder of results: one for each scan, linked to its neighbours, and an index of all of them.

``tests/bundle/results/test_page_set.py`` and ``tests/browser`` hold it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bundle.errors import BundleError, OptionError, error_line
from bundle.io.names import printable, shown_id
from bundle.results.finished import ScanFinder, find_finished, read_finished
from bundle.results.html import href, page_head
from bundle.results.index_page import Entry, entry_of, write_index, write_participant
from bundle.results.listed import Listed, read_listed
from bundle.results.outputs import OutputPaths
from bundle.results.ratings import Rated, read_ratings, write_rated
from bundle.results.scan_page import Neighbour, Place, write_page

INDEX, RATED = "index.html", "rated.tsv"


@dataclass(frozen=True)
class Outcome:
    """What became of a page.

    Attributes:
        id: of the scan.
        page: the file.
        written: whether it was written; else it was up to date, or there is an error.
        reason: why the scan is not in it; empty where it is.
        error: why there is no page.
    """

    id: str
    page: Path
    written: bool = False
    reason: str = ""
    error: Exception | None = None


class PageSet:
    """The pages of a folder of results.

    Args:
        folder: the results.
        scans: folders of the scans.
        ratings: files of ratings that pages exported.
        title: of the index; the folder's name when empty.

    Attributes:
        paths: the results by the id of the scan, in the order of the pages.

    Raises:
        BundleError: when there are no results, or a table or file of ratings cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        scans: Sequence[str | Path] = (),
        ratings: Sequence[str | Path] = (),
        title: str = "",
    ) -> None:
        self.folder = Path(folder)
        self.title = title or self.folder.absolute().name
        for path in scans:
            if not Path(path).is_dir():
                raise OptionError("--scans", f"found {str(path)!r}", "a folder of scans is wanted")
        if any(os.path.realpath(path) == os.path.realpath(self.folder / RATED) for path in ratings):
            raise OptionError("--ratings", f"found {RATED} of the results itself", "what a page exported is wanted")
        self.ratings = read_ratings(ratings)
        self.listed = read_listed(self.folder)
        self.paths = {self._id(paths): paths for paths in find_finished(self.folder)}
        self._finder = ScanFinder(scans, {name: scan.path for name, scan in self.listed.items() if scan.path})
        self._entries: dict[str, Entry] = {}

    def write(self, renew: bool = False) -> Iterator[Outcome]:
        """Write the pages of all scans, and yield what became of each.

        Args:
            renew: write those anew too that are up to date.
        """
        errors = self._unreadable()
        order = [name for name in self.paths if name not in errors]
        places = dict(zip(order, _places(order, self.folder, self.paths), strict=True))
        for name, paths in self.paths.items():
            page = self.page_of(name)
            if name in errors:
                yield Outcome(name, page, error=errors[name])
                continue
            try:
                result = read_finished(paths)
                scan, reason = self._finder.find(result)
                written = write_page(result, page, places[name], scan, reason, renew)
            except Exception as error:  # one bad result must not stop the others
                self._entries[name] = self._without_page(name, error)
                yield Outcome(name, page, error=error)
                continue
            address = href(page.relative_to(self.folder).as_posix())
            entry = entry_of(result, name, address, page_head(page)[1], self.ratings.get(name), self._status(name))
            self._entries[name] = entry
            yield Outcome(name, page, written, reason)

    def entries(self) -> dict[str, Entry]:
        """Return what the index says of each scan whose page was written or that failed, by its id."""
        failed = {
            printable(name): Entry(printable(name), status=scan.line, rating=self.ratings.get(name))
            for name, scan in self.listed.items()
            if name not in self.paths and scan.status == "failed"
        }
        return {**self._entries, **failed}

    def write_participant(self, names: Sequence[str], path: str | Path) -> None:
        """Write a page that links those of some scans, anywhere; its name is its title.

        Args:
            names: ids of the scans; those without an entry are left out.
            path: the page.

        Raises:
            ExistsError: when another file is in its place.
            WriteError: when it cannot be written.
        """
        path, entries = Path(path), self.entries()
        here = Path(os.path.relpath(self.folder, path.parent))
        found = []
        for name in names:
            if entry := entries.get(shown_id(name)):
                page = self.page_of(entry.id).relative_to(self.folder) if entry.href else None
                found.append(entry if page is None else replace(entry, href=href((here / page).as_posix())))
        write_participant(found, path, path.stem, href((here / INDEX).as_posix()))

    def page_of(self, name: str) -> Path:
        """Return the page of a scan that has results."""
        record = self.paths[name].record
        return record.with_name(f"{record.parent.name}.html")

    def write_index(self) -> tuple[Path, list[str]]:
        """Write the index of the pages that were written, and the table of ratings where files of them were given.

        Returns:
            The index, and the ids of the scans that stand out of the others.

        Raises:
            ExistsError: when other files are in their places.
            WriteError: when it cannot be written.
        """
        entries = self.entries()
        path = self.folder / INDEX
        far = write_index(list(entries.values()), path, self.title)
        if self.ratings:
            scans = {
                name: Rated(entry.label_map_sha256, entry.status, entry.flags, entry.quality)
                for name, entry in entries.items()
            }
            write_rated(self.ratings, scans, self.folder / RATED)
        return path, far

    def _id(self, paths: OutputPaths) -> str:
        """Return what a scan is called: its folder's path among the results, or the cohort's id for it."""
        parts = paths.record.parent.relative_to(self.folder).parts
        name = parts[0] if len(parts) == 2 and parts[0] in self.listed else "/".join(parts) or paths.record.parent.name
        return shown_id(name)

    def _status(self, name: str) -> str:
        return self.listed.get(name, Listed("", "done")).line

    def _unreadable(self) -> dict[str, Exception]:
        """Return why results cannot be read, by the scan's id: they are no neighbours of others."""
        errors: dict[str, Exception] = {}
        for name, paths in self.paths.items():
            try:
                read_finished(paths)
            except (BundleError, OSError) as error:
                errors[name] = error
                self._entries[name] = self._without_page(name, error)
        return errors

    def _without_page(self, name: str, error: Exception) -> Entry:
        found = error.found if isinstance(error, BundleError) else error_line(error)
        return Entry(name, status=f"no page: {found}", rating=self.ratings.get(name))


def _places(order: Sequence[str], folder: Path, paths: dict[str, OutputPaths]) -> Iterator[Place]:
    """Yield where the page of each scan stands among the others."""
    folders = [paths[name].record.parent for name in order]

    def neighbour(here: Path, index: int) -> Neighbour | None:
        if not 0 <= index < len(order):
            return None
        page = folders[index] / f"{folders[index].name}.html"
        return Neighbour(order[index], href(Path(os.path.relpath(page, here)).as_posix()))

    for index, (name, here) in enumerate(zip(order, folders, strict=True)):
        root = Path(os.path.relpath(folder / INDEX, here)).as_posix()
        yield Place(name, href(root), neighbour(here, index - 1), neighbour(here, index + 1))
