"""The scans of a cohort: each has an id, which names its row in the tables and its folder among the results.

Files, folders, lists (``.txt``, a path a line), tables (``.tsv`` with the columns ``image`` and possibly ``id``) and
BIDS data sets are taken. Two scans of one id are refused, but for the first of them.
``tests/bundle/cohort/test_cases.py`` holds it.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundle.bids.entities import anat_scans, is_bids_root, no_images
from bundle.choices import DEFAULT_BIDS_SUFFIX
from bundle.cohort.messages import FAILED, TEXT, Case, Outcome, Result
from bundle.errors import BundleError, InputError, OptionError, one_line
from bundle.io.discover import Listing, list_inputs
from bundle.io.names import volume_stem
from bundle.results import plan_outputs

IMAGE, ID = "image", "id"
LIST_SUFFIXES, TABLE_SUFFIX = (".txt", ".list"), ".tsv"


@dataclass
class Cohort:
    """What inputs stand for.

    Attributes:
        cases: the scans, in the order given.
        refused: what should have been a scan and is none, with the reason.
        left_out: of everything else that folders hold its path and what it is.
    """

    cases: list[Case] = field(default_factory=list)
    refused: list[tuple[Case, BundleError]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def part(self, number: int, parts: int) -> Cohort:
        """Return every ``parts``-th scan, from the ``number``-th on (1 is the first); the first part has the refused.

        Raises:
            OptionError: when there is no such part.
        """
        if not 1 <= number <= parts:
            raise OptionError("shard", f"found {number}/{parts}", "I/N with I from 1 to N is wanted")
        refused = self.refused if number == 1 else []
        return Cohort(self.cases[number - 1 :: parts], refused, self.left_out if number == 1 else [])

    def refuse_taken(self, output_dir: str | Path, overwrite: bool) -> None:
        """Refuse the scans whose results could not be written, before a network runs; for runs that do not resume.

        Raises:
            BundleError: when the folder of the outputs itself cannot be used.
        """
        plan = plan_outputs([case.image for case in self.cases], output_dir, overwrite)
        by_image = {case.image: case for case in self.cases}
        self.refused += [(by_image[image], error) for image, error in plan.refused]
        self.cases = [by_image[image] for image in plan.scans]

    def lines(self) -> list[str]:
        """Return a line for each entry that is left out."""
        return Listing(left_out=self.left_out).lines()

    def refusals(self) -> list[Outcome]:
        """Return what became of those that are refused."""
        return [
            Outcome(case, Result(FAILED, code=error.code, reason=str(error)), "none", 0) for case, error in self.refused
        ]


def find_cases(
    inputs: Iterable[str | Path], recursive: bool = False, plain: bool = False, suffixes: Sequence[str] | None = None
) -> Cohort:
    """Return the scans that inputs stand for.

    Args:
        inputs: volumes, folders, lists and tables of volumes, BIDS data sets.
        recursive: walk the folders inside folders too.
        plain: take volumes and folders alone, and paths as they are given.
        suffixes: kinds of images of BIDS data sets; ``T1w`` alone where ``None``.

    Raises:
        OptionError: when there are suffixes and no BIDS data set.
        InputError: when a list or a table cannot be read, or an id can be no folder's name.
    """
    cohort = Cohort()
    first: dict[str, str] = {}
    entries = list(map(str, inputs))
    if suffixes and not any(map(is_bids_root, entries)):
        raise OptionError("suffix", "found no BIDS data set among the inputs", "one is wanted, whose images it chooses")
    kinds = suffixes or (DEFAULT_BIDS_SUFFIX,)
    for entry in entries:
        for case in _plain_cases(entry, recursive, cohort) if plain else _cases(entry, recursive, kinds, cohort):
            if case.id in first:
                found = f"found the name {case.id} in {first[case.id]} too"
                wanted = "one output for each scan is wanted"
                if not plain:
                    wanted += ": a .tsv with the columns id and image gives each a name"
                cohort.refused.append((case, InputError(case.image, found, wanted, "pairs")))
            else:
                first[case.id] = case.image
                cohort.cases.append(case)
    return cohort


def _cases(entry: str, recursive: bool, suffixes: Sequence[str], cohort: Cohort) -> Iterator[Case]:
    path = Path(entry)
    if is_bids_root(path):
        scans = anat_scans(path, suffixes=suffixes)
        if not scans:
            cohort.refused.append((Case(path.resolve().name, entry), no_images(path, suffixes)))
        yield from (_by_name(str(scan.path)) for scan in scans)
    elif path.suffix.lower() == TABLE_SUFFIX and path.is_file():
        yield from _table_cases(path)
    elif path.suffix.lower() in LIST_SUFFIXES and path.is_file():
        yield from map(_by_name, _lines(path))
    else:
        yield from (_by_name(case.image) for case in _plain_cases(entry, recursive, cohort))


def _plain_cases(entry: str, recursive: bool, cohort: Cohort) -> Iterator[Case]:
    listing = list_inputs([entry], recursive)
    cohort.left_out += listing.left_out
    for error in listing.errors:
        path = str(error.args[0])
        cohort.refused.append((Case(volume_stem(path), path), error))
    yield from (Case(volume_stem(image), image) for image in listing.scans)


def _by_name(image: str) -> Case:
    return Case(volume_stem(image), os.path.abspath(image))


def _lines(path: Path) -> list[str]:
    """Return the paths of a list; relative ones are relative to it."""
    try:
        lines = path.read_text(**TEXT).splitlines()
    except OSError as error:
        raise InputError(
            path, f"cannot be read ({error.strerror})", "a list of scans is wanted", "unreadable"
        ) from error
    paths = [os.path.join(path.parent, line.strip()) for line in lines if line.strip()]
    if not paths:
        raise InputError(path, "found no path", "the path of a scan in each line is wanted")
    return paths


def _table_cases(path: Path) -> Iterator[Case]:
    try:
        with open(path, newline="", **TEXT) as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, csv.Error) as error:
        raise InputError(path, f"cannot be read ({one_line(error)})", "a table of scans is wanted") from error
    if not rows or IMAGE not in rows[0]:
        columns = list(rows[0]) if rows else []
        raise InputError(path, f"found the columns {columns}", f"the column {IMAGE}, and possibly {ID}, is wanted")
    for number, row in enumerate(rows, 2):
        if not row[IMAGE]:
            raise InputError(path, f"found no {IMAGE} in line {number}", "the path of a scan is wanted")
        image = os.path.abspath(os.path.join(path.parent, row[IMAGE]))
        case = Case(row.get(ID) or volume_stem(image), image)
        _check_id(case.id, path, number)
        yield case


def _check_id(name: str, path: Path, number: int) -> None:
    """Refuse what can be no folder's name, or would lead elsewhere."""
    if Path(name).name != name or name.startswith(".") or not name.isprintable():
        wanted = "the name of a folder is wanted, without / and not starting with a dot"
        raise InputError(path, f"found the id {name!r} in line {number}", wanted)
